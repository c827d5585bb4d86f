from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Thumb(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    THUMB_UNSPECIFIED: _ClassVar[Thumb]
    UP: _ClassVar[Thumb]
    DOWN: _ClassVar[Thumb]

class ErrorCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OK: _ClassVar[ErrorCode]
    INVALID_REQUEST: _ClassVar[ErrorCode]
    MODEL_UNAVAILABLE: _ClassVar[ErrorCode]
    COMPLEXITY_EVALUATION_FAILED: _ClassVar[ErrorCode]
    COST_LIMIT_EXCEEDED: _ClassVar[ErrorCode]
THUMB_UNSPECIFIED: Thumb
UP: Thumb
DOWN: Thumb
OK: ErrorCode
INVALID_REQUEST: ErrorCode
MODEL_UNAVAILABLE: ErrorCode
COMPLEXITY_EVALUATION_FAILED: ErrorCode
COST_LIMIT_EXCEEDED: ErrorCode

class Empty(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ModelRequest(_message.Message):
    __slots__ = ("request_id", "query", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    query: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, request_id: _Optional[str] = ..., query: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ModelResponse(_message.Message):
    __slots__ = ("request_id", "response", "complexity_score", "model_used", "cost", "model", "tier", "complexity_factors", "finish_reason", "input_tokens", "output_tokens", "cached", "route_reason", "cascade")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    COMPLEXITY_SCORE_FIELD_NUMBER: _ClassVar[int]
    MODEL_USED_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    COMPLEXITY_FACTORS_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    ROUTE_REASON_FIELD_NUMBER: _ClassVar[int]
    CASCADE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    response: str
    complexity_score: float
    model_used: str
    cost: float
    model: str
    tier: str
    complexity_factors: _containers.RepeatedScalarFieldContainer[str]
    finish_reason: str
    input_tokens: int
    output_tokens: int
    cached: bool
    route_reason: str
    cascade: str
    def __init__(self, request_id: _Optional[str] = ..., response: _Optional[str] = ..., complexity_score: _Optional[float] = ..., model_used: _Optional[str] = ..., cost: _Optional[float] = ..., model: _Optional[str] = ..., tier: _Optional[str] = ..., complexity_factors: _Optional[_Iterable[str]] = ..., finish_reason: _Optional[str] = ..., input_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., cached: _Optional[bool] = ..., route_reason: _Optional[str] = ..., cascade: _Optional[str] = ...) -> None: ...

class ModelResponseChunk(_message.Message):
    __slots__ = ("delta", "result")
    DELTA_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    delta: str
    result: ModelResponse
    def __init__(self, delta: _Optional[str] = ..., result: _Optional[_Union[ModelResponse, _Mapping]] = ...) -> None: ...

class ModelCapabilitiesResponse(_message.Message):
    __slots__ = ("capabilities", "providers")
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    providers: _containers.RepeatedCompositeFieldContainer[ModelProviderInfo]
    def __init__(self, capabilities: _Optional[_Iterable[str]] = ..., providers: _Optional[_Iterable[_Union[ModelProviderInfo, _Mapping]]] = ...) -> None: ...

class ModelProviderInfo(_message.Message):
    __slots__ = ("provider_name", "capabilities")
    PROVIDER_NAME_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    provider_name: str
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, provider_name: _Optional[str] = ..., capabilities: _Optional[_Iterable[str]] = ...) -> None: ...

class ComplexityEvaluationRequest(_message.Message):
    __slots__ = ("query", "features")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    query: str
    features: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, query: _Optional[str] = ..., features: _Optional[_Iterable[str]] = ...) -> None: ...

class ComplexityEvaluationResponse(_message.Message):
    __slots__ = ("complexity_score", "complexity_factors", "tier")
    COMPLEXITY_SCORE_FIELD_NUMBER: _ClassVar[int]
    COMPLEXITY_FACTORS_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    complexity_score: float
    complexity_factors: _containers.RepeatedScalarFieldContainer[str]
    tier: str
    def __init__(self, complexity_score: _Optional[float] = ..., complexity_factors: _Optional[_Iterable[str]] = ..., tier: _Optional[str] = ...) -> None: ...

class FeedbackRequest(_message.Message):
    __slots__ = ("request_id", "score", "thumb", "comment", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    THUMB_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    score: float
    thumb: Thumb
    comment: str
    labels: _containers.ScalarMap[str, str]
    def __init__(self, request_id: _Optional[str] = ..., score: _Optional[float] = ..., thumb: _Optional[_Union[Thumb, str]] = ..., comment: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class FeedbackResponse(_message.Message):
    __slots__ = ("request_id", "score")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    score: float
    def __init__(self, request_id: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

class ErrorResponse(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: ErrorCode
    message: str
    def __init__(self, code: _Optional[_Union[ErrorCode, str]] = ..., message: _Optional[str] = ...) -> None: ...
