"""What is published about each vendor: address, protocol, models, and the variable that holds its key. Data only.

Models are such as the vendor lists, with one for each tier; where a vendor serves what its user deploys (azure) or
downloads (the local servers), none is named. Prices are not here: see budget/pricing.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

Options: TypeAlias = Mapping[str, object]

_SKILLS = ("text_generation", "code_generation", "reasoning", "summarization", "translation", "conversation")
_TOOLS = (*_SKILLS, "tools", "json_schema")
_ALL = (*_TOOLS, "vision", "files")


def _vendor(
    base_url: str,
    hybrid: str,
    remote: str,
    *others: str,
    skills: tuple[str, ...] = _TOOLS,
    cost_efficiency: float = 0.5,
    **options: object,
) -> Options:
    """A remote vendor with a cheaper and a stronger model."""
    return {
        "kind": "openai",
        "base_url": base_url,
        "supported_model_types": ("hybrid", "remote"),
        "tier_models": {"hybrid": hybrid, "remote": remote},
        "supported_models": (hybrid, remote, *others),
        "cost_efficiency": cost_efficiency,
        "capabilities": skills,
        **options,
    }


def _local(base_url: str) -> Options:
    """A server on this machine: free, and with whatever model its user has loaded."""
    return {
        "kind": "openai",
        "base_url": base_url,
        "supported_model_types": ("local",),
        "price_per_million_input": 0.0,
        "price_per_million_output": 0.0,
        "base_cost_per_query": 0.0,
        "cost_efficiency": 1.0,
        "capabilities": _SKILLS,
        # A model that is not loaded yet is loaded on the first query.
        "first_token_timeout": 120_000,
    }


VENDORS: Final[Mapping[str, Options]] = {
    "openai": _vendor(
        "https://api.openai.com/v1",
        "gpt-4.1-mini",
        "gpt-4.1",
        "gpt-4.1-nano",
        "gpt-4o",
        "gpt-4o-mini",
        skills=(*_ALL, "audio"),
        cost_efficiency=0.6,
        embedding_models=("text-embedding-3-small", "text-embedding-3-large"),
    ),
    "anthropic": _vendor(
        "https://api.anthropic.com/v1",
        "claude-haiku-4-5",
        "claude-sonnet-4-5",
        "claude-opus-4-5",
        kind="anthropic",
        skills=_ALL,
    ),
    "gemini": _vendor(
        "https://generativelanguage.googleapis.com/v1beta",
        "gemini-3.5-flash-lite",
        "gemini-3.8-flash",
        "gemini-2.5-flash",
        "gemini-2.5-pro",
        kind="gemini",
        skills=(*_ALL, "audio"),
        cost_efficiency=0.7,
    ),
    # The models are the names that you gave to your deployments.
    "azure": {
        "kind": "openai",
        "supported_model_types": ("remote",),
        "cost_efficiency": 0.6,
        "capabilities": _ALL,
        "api_key_header": "api-key",
    },
    "deepseek": _vendor(
        "https://api.deepseek.com/v1", "deepseek-v4-flash", "deepseek-v4-pro", skills=_TOOLS, cost_efficiency=0.9
    ),
    # DashScope in Beijing; outside China: https://dashscope-intl.aliyuncs.com/compatible-mode/v1
    "qwen": _vendor(
        "https://dashscope.aliyuncs.com/compatible-mode/v1", "qwen-plus", "qwen-max", "qwen-flash", cost_efficiency=0.8
    ),
    # Outside China: https://api.moonshot.ai/v1
    "moonshot": _vendor("https://api.moonshot.cn/v1", "kimi-k2.6", "kimi-k3", cost_efficiency=0.7),
    # Outside China: https://api.z.ai/api/paas/v4
    "zhipu": _vendor("https://open.bigmodel.cn/api/paas/v4", "glm-5.3-flash", "glm-5.3", cost_efficiency=0.8),
    "groq": _vendor("https://api.groq.com/openai/v1", "openai/gpt-oss-20b", "openai/gpt-oss-120b", cost_efficiency=0.9),
    "mistral": _vendor(
        "https://api.mistral.ai/v1",
        "mistral-small-latest",
        "mistral-medium-latest",
        cost_efficiency=0.8,
        embedding_models=("mistral-embed",),
    ),
    # Its own router among all of its models; name the models you want to have them priced.
    "openrouter": {
        "kind": "openai",
        "base_url": "https://openrouter.ai/api/v1",
        "default_model": "openrouter/auto",
        "supported_model_types": ("remote",),
        "cost_efficiency": 0.5,
        "capabilities": _ALL,
    },
    "together": _vendor(
        "https://api.together.xyz/v1", "zai-org/GLM-5.3-Flash", "openai/gpt-oss-120b", cost_efficiency=0.8
    ),
    "xai": _vendor(
        "https://api.x.ai/v1",
        "grok-4-1-fast-non-reasoning",
        "grok-4.6",
        skills=(*_TOOLS, "vision"),
        cost_efficiency=0.6,
    ),
    "ollama": _local("http://127.0.0.1:11434/v1"),
    "vllm": _local("http://127.0.0.1:8000/v1"),
    "llama.cpp": _local("http://127.0.0.1:8080/v1"),
    "lmstudio": _local("http://127.0.0.1:1234/v1"),
}

KEY_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "azure": ("AZURE_OPENAI_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "qwen": ("DASHSCOPE_API_KEY",),
    "moonshot": ("MOONSHOT_API_KEY",),
    "zhipu": ("ZHIPU_API_KEY", "ZAI_API_KEY"),
    "groq": ("GROQ_API_KEY",),
    "mistral": ("MISTRAL_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY",),
    "together": ("TOGETHER_API_KEY",),
    "xai": ("XAI_API_KEY",),
}
"""The variables whose presence switches a vendor on; the first that is set counts."""

ALIASES: Final[Mapping[str, str]] = {
    "dashscope": "qwen",
    "llamacpp": "llama.cpp",
    "lm-studio": "lmstudio",
    "z-ai": "zhipu",
}
"""Other names that people know a vendor by."""
