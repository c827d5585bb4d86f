"""The contract is wire-compatible for ever: names and numbers that clients already speak."""

from __future__ import annotations

import pytest

from model_gateway.pb import gateway_pb2 as pb

CONTRACT = {
    "ModelRequest": {"request_id": (1, "string"), "query": (2, "string"), "metadata": (3, "map")},
    "ModelResponse": {
        "request_id": (1, "string"),
        "response": (2, "string"),
        "complexity_score": (3, "float"),
        "model_used": (4, "string"),
        "cost": (5, "float"),
    },
    "ModelCapabilitiesResponse": {"capabilities": (1, "repeated string"), "providers": (2, "repeated message")},
    "ModelProviderInfo": {"provider_name": (1, "string"), "capabilities": (2, "repeated string")},
    "ComplexityEvaluationRequest": {"query": (1, "string"), "features": (2, "repeated string")},
    "ComplexityEvaluationResponse": {"complexity_score": (1, "float"), "complexity_factors": (2, "repeated string")},
    "ErrorResponse": {"code": (1, "enum"), "message": (2, "string")},
    "Empty": {},
}
TYPES = {2: "float", 9: "string", 11: "message", 14: "enum"}


def shape(field: object) -> str:
    from google.protobuf.descriptor import FieldDescriptor

    assert isinstance(field, FieldDescriptor)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return "map"
    return ("repeated " if field.is_repeated else "") + TYPES[field.type]


@pytest.mark.parametrize("message", CONTRACT)
def test_fields_keep_name_number_and_type(message: str) -> None:
    fields = pb.DESCRIPTOR.message_types_by_name[message].fields_by_name
    for name, (number, kind) in CONTRACT[message].items():
        assert (fields[name].number, shape(fields[name])) == (number, kind), f"{message}.{name}"


def test_error_codes() -> None:
    assert dict(pb.ErrorCode.items()) == {
        "OK": 0,
        "INVALID_REQUEST": 1,
        "MODEL_UNAVAILABLE": 2,
        "COMPLEXITY_EVALUATION_FAILED": 3,
        "COST_LIMIT_EXCEEDED": 4,
    }


def test_the_services_methods() -> None:
    service = pb.DESCRIPTOR.services_by_name["ModelGatewayService"]
    assert service.full_name == "modelgateway.ModelGatewayService"
    methods = {m.name: (m.input_type.name, m.output_type.name, m.server_streaming) for m in service.methods}
    assert methods == {
        "ProcessQuery": ("ModelRequest", "ModelResponse", False),
        "ProcessQueryStream": ("ModelRequest", "ModelResponseChunk", True),
        "GetModelCapabilities": ("Empty", "ModelCapabilitiesResponse", False),
        "EvaluateComplexity": ("ComplexityEvaluationRequest", "ComplexityEvaluationResponse", False),
        "GiveFeedback": ("FeedbackRequest", "FeedbackResponse", False),
    }
