"""What a request is charged, written into its record. Pure: the ledger books what stands there when it closes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from model_gateway.budget import tokens
from model_gateway.budget.pricing import cost_nano
from model_gateway.domain.chat import ChatRequest
from model_gateway.domain.record import Record
from model_gateway.domain.route import TIERS, Target, served_tier
from model_gateway.domain.usage import Expected, Usage

_TIER_OF = {tier.value: tier for tier in TIERS}  # a tenth of what asking the enumeration takes

MESSAGE_TOKENS = 4  # what role and framing of one message cost, by OpenAI's published counting


def input_tokens(request: ChatRequest) -> int:
    """About how many, for every request."""
    return sum([tokens.about(message.text()) + MESSAGE_TOKENS for message in request.messages])


def new_tokens(request: ChatRequest) -> int:
    """About how many no provider had read when the last answer in this conversation was given, itself included."""
    found = 0
    for message in reversed(request.messages):
        found += tokens.about(message.text()) + MESSAGE_TOKENS
        if message.role == "assistant":
            break
    return found


def counted_tokens(request: ChatRequest, model: str) -> int:
    """By a vocabulary, for where the number is charged or limited."""
    return sum([tokens.count(message.text(), model) + MESSAGE_TOKENS for message in request.messages])


def expected(request: ChatRequest, model: str, about: int, output: int, calls: int) -> Expected:
    """What limits on tokens are asked for: `about` so many of input and at most `output`, each of `calls` times."""

    def exactly() -> int:
        return (counted_tokens(request, model) + output) * calls

    most = sum([tokens.most(message.text()) + MESSAGE_TOKENS for message in request.messages])
    return Expected((about + output) * calls, (most + output) * calls, exactly)


def only_read(request: ChatRequest) -> Usage:
    """Of a call that was given up before its answer came. Nobody knows how far the provider was: what was held for the
    prompt is charged, and no vocabulary (30 MB) is loaded to be exact about a guess.
    """
    return Usage(input_tokens(request), 0, estimated=True)


def serve(target: Target, record: Record) -> None:
    """Note who answers. A fallback may serve another tier than the route's first target."""
    record.provider = target.provider
    record.model = target.model
    record.tier = served_tier(target, _TIER_OF[record.tier])


def strongest(targets: Sequence[Target]) -> Target | None:
    """With what a report compares: of the strongest tier that is served, the model whose output costs most."""
    priced = [target for target in targets if target.tiers and target.price.known and not target.embeds]
    return max(priced, key=_strength, default=None)


def _strength(target: Target) -> tuple[int, int, int]:
    return max(map(TIERS.index, target.tiers)), target.price.output_pico, target.price.input_pico


def compare(record: Record, target: Target | None, best: Target | None, *, embeds: bool) -> None:
    """What this answer would have cost from the strongest model and, for a hit in the cache, from `target` itself.

    The assumption: it would have read and written as many tokens. Embeddings are compared with themselves.
    """
    usage = record.usage
    if target is None or usage is None:
        return
    if record.cache == "hit":
        own = record.uncached_nano = cost_nano(target, usage, record.score)
    else:
        own = record.cost_nano
    if best is None or best is target or embeds:
        record.baseline_nano = own
    else:
        record.baseline_nano = cost_nano(best, usage, record.score)


def charge(
    record: Record,
    target: Target,
    usage: Usage | None,
    request: ChatRequest,
    said: str,
    targets: Mapping[tuple[str, str], Target],
    unread: int = 0,
) -> None:
    """Charge what the provider counted; where it counted nothing, our own count, marked as an estimate.

    `said`: the answer's text. `unread`: tokens of it that are in no text. `targets` by provider and model, for those
    that lost a race.
    """
    serve(target, record)
    if usage is None:
        written = tokens.count(said, target.model) + unread
        usage = Usage(counted_tokens(request, target.model), written, estimated=True)
    record.usage = usage
    record.cost_nano = cost_nano(target, usage, record.score)
    record.price_assumed = not target.price.known and target.base_cost_nano > 0
    if len(record.attempts) > 1 or record.cascade is not None:
        _charge_losers(record, target, request, targets)


def shares_of(record: Record) -> dict[str, int]:
    """By the account of each provider and model, what its calls have cost."""
    paid = [attempt for attempt in record.attempts if attempt.cost_nano]
    if len(paid) < 2:
        return {f"provider:{record.provider}": record.cost_nano, f"model:{record.model}": record.cost_nano}
    shares: dict[str, int] = {}
    for attempt in paid:
        for account in (f"provider:{attempt.provider}", f"model:{attempt.model}"):
            shares[account] = shares.get(account, 0) + attempt.cost_nano
    return shares


def _charge_losers(
    record: Record, winner: Target, request: ChatRequest, targets: Mapping[tuple[str, str], Target]
) -> None:
    """Each attempt with its own cost; hedged calls that were cancelled have one: their providers have read the prompt.

    So has the answer that a cascade did not give. The attempts' costs add up to the record's.
    """
    own = next((a for a in reversed(record.attempts) if targets[a.provider, a.model] is winner), None)
    if own is not None:
        own.usage, own.cost_nano = record.usage, record.cost_nano
    for attempt in record.attempts:
        target = targets[attempt.provider, attempt.model]
        if attempt.outcome == "cancelled" and attempt is not own:
            attempt.usage = only_read(request)
            attempt.cost_nano = cost_nano(target, attempt.usage, record.score)
            record.cost_nano += attempt.cost_nano
        elif attempt.usage is not None and attempt is not own:
            record.cost_nano += attempt.cost_nano
