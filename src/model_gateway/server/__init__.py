"""The data plane's doors: they translate, the pipeline decides."""
