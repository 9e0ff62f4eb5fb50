"""One entry of `secrets`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar, get_args

from msgspec import UNSET, UnsetType
from yaml.nodes import MappingNode, Node, ScalarNode

from secretsd.config.reader import shown
from secretsd.model import DAY_MS, Grace, Rotation, SecretType, parse_duration
from secretsd.policy import document as d
from secretsd.policy.feasible import ahead_complaints
from secretsd.policy.names import NameSet, is_glob, is_pattern
from secretsd.policy.rules import BUILT_IN, SecretRule
from secretsd.policy.timing import TIMING_KEYS, parse_timing
from secretsd.policy.windows import Window
from secretsd.rotators import Misconfigured, RotatorRule, configure

TextT = TypeVar("TextT", bound=str)

_TYPES: Final[tuple[SecretType, ...]] = get_args(SecretType)
_ROTATIONS: Final[tuple[Rotation, ...]] = get_args(Rotation)
_GRACES: Final[tuple[Grace, ...]] = get_args(Grace)
_PERIODS: Final = ("rotation_period", "rotation_days", "grace_period", "grace_days")
_KEYS: Final = ("type", "rotation", *_PERIODS, "grace", *TIMING_KEYS, "jwks", "rotator")
_MAX_DAYS: Final = 36_500


def parse_secret_rule(
    pattern: str, key: ScalarNode, node: Node, windows: Mapping[str, Window], findings: d.Findings
) -> SecretRule | None:
    """Return the rule that `node` gives for the names that `pattern` matches; mistakes go to `findings`.

    `windows` are the file's, which the rule may name.
    """
    if not is_pattern(pattern):
        findings.note(key, "secrets", f"no name matches {shown(pattern)}; allowed: a name, or one with * and ?")
        return None
    where = f"secrets.{pattern}"
    members: dict[str, Node] = {}
    for member, member_key, value in d.entries(node, where, findings):
        if member in _KEYS:
            members[member] = value
        else:
            d.unknown_key(member_key, where, _KEYS, findings)
    kind = _one_of(members.get("type"), f"{where}.type", _TYPES, findings)
    rotation = _one_of(members.get("rotation"), f"{where}.rotation", _ROTATIONS, findings)
    jwks = _jwks(members.get("jwks"), f"{where}.jwks", findings)
    if jwks and kind not in (None, "jwt_signing_key"):
        findings.note(
            key,
            where,
            "jwks: true publishes the public half of a signing key; the type must be jwt_signing_key",
        )
    timing = parse_timing(members, where, windows, findings)
    converges = _one_of(members.get("grace"), f"{where}.grace", _GRACES, findings) == "until-converged"
    grace_ms = _period(members, "grace", where, findings, least_ms=0)
    if converges and (grace_ms is None or grace_ms == 0):
        findings.note(
            members["grace"],
            f"{where}.grace",
            'until-converged needs an end: grace_period is the deadline, at least "1s" and not never; without one it '
            "is the default grace",
        )
    rule = SecretRule(
        pattern,
        rotator=_rotator(members.get("rotator"), f"{where}.rotator", kind, findings),
        type=kind,
        rotation=rotation,
        rotation_ms=_period(members, "rotation", where, findings, least_ms=1000),
        grace_ms=grace_ms,
        converges=converges,
        jwks=jwks,
        cron=timing.cron,
        window=timing.window,
        not_with=timing.not_with,
        gap_ms=timing.gap_ms,
        publish_ahead_ms=timing.publish_ahead_ms,
    )
    if "publish_ahead" in members:
        for complaint in ahead_complaints(rule):
            findings.note(members["publish_ahead"], f"{where}.publish_ahead", complaint)
    return rule


def shadow_warnings(own: Iterable[SecretRule], rules: tuple[SecretRule, ...]) -> list[str]:
    """Return what the file's rules change that their author may not have meant.

    `rules` are all of them. A rule that comes before a built-in one takes its place, save the type; and an external
    secret never rotates by itself, whatever a rule says.
    """
    warnings = []
    for rule in own:
        where = f"secrets.{rule.pattern}"
        kind = rule.type or next(
            (one.type for one in rules if one.type and rule.pattern in NameSet([one.pattern])), None
        )
        if kind == "external" and rule.rotation == "auto":
            warnings.append(f"{where}: rotation: auto has no effect on external secrets; they are issued elsewhere")
        if rule.rotation == "auto" and rule.rotation_ms is None:
            warnings.append(f"{where}: rotation: auto has no effect with rotation_period: never")
        if rule.jwks and not _publishes(rule, kind, rules):
            warnings.append(f"{where}: jwks: true publishes signing keys only; give it type: jwt_signing_key too")
        if rule.cron is not None and rule.rotation is None:
            warnings.append(
                f"{where}: rotation_schedule says when it expires; it rotates by itself with rotation: auto only"
            )
        idle = [
            said for said, given in (("window", rule.window is not None), ("not_with", bool(rule.not_with))) if given
        ]
        if idle and (rule.rotation == "manual" or kind == "external"):
            warnings.append(
                f"{where}: {' and '.join(idle)} holds for rotations by schedule; these secrets rotate by hand only"
            )
        hidden = _hidden(rule)
        lost = [] if hidden is None else _lost(rule, kind, hidden)
        if hidden is not None and lost:
            warnings.append(
                f"{where} replaces the built-in rule {hidden.pattern} and doesn't repeat its {', '.join(lost)}"
            )
    return warnings


def _publishes(rule: SecretRule, kind: SecretType | None, rules: tuple[SecretRule, ...]) -> bool:
    """Tell whether some name that `rule` matches is a signing key's, by it or by a later rule."""
    within = NameSet([rule.pattern])
    return kind == "jwt_signing_key" or any(one.type == "jwt_signing_key" and one.pattern in within for one in rules)


def _hidden(rule: SecretRule) -> SecretRule | None:
    """Return the built-in rule that `rule` comes before: of the same pattern, or the one for its only name."""
    same = next((one for one in BUILT_IN if one.pattern == rule.pattern), None)
    if same is not None or is_glob(rule.pattern):
        return same
    return next((one for one in BUILT_IN if rule.pattern in NameSet([one.pattern])), None)


def _lost(rule: SecretRule, kind: SecretType | None, hidden: SecretRule) -> list[str]:
    """Return what `hidden` says of the periods, and of keys where those stay keys, that `rule` doesn't say."""
    same = kind == hidden.type
    return [
        said
        for said, gone in (
            ("rotation: auto", same and hidden.rotation == "auto" and rule.rotation is None),
            ("rotation_period: never", hidden.rotation_ms is None and rule.rotation_ms is UNSET and rule.cron is None),
            ("grace_period: never", hidden.grace_ms is None and rule.grace_ms is UNSET and not rule.converges),
            ("jwks: true", same and hidden.jwks and not rule.jwks),
        )
        if gone
    ]


def _one_of(node: Node | None, where: str, allowed: tuple[TextT, ...], findings: d.Findings) -> TextT | None:
    if node is None:
        return None
    word = d.text_of(node)
    for one in allowed:
        if one == word:
            return one
    if word is None:
        findings.misfit(node, where, ", ".join(allowed))
    else:
        findings.note(node, where, f"found {shown(word)}; allowed: {', '.join(allowed)}")
    return None


def _jwks(node: Node | None, where: str, findings: d.Findings) -> bool:
    meaning = False if node is None else d.boolean_of(node)
    if node is not None and meaning is None:
        findings.misfit(node, where, "true or false")
    return bool(meaning)


def _rotator(node: Node | None, where: str, kind: SecretType | None, findings: d.Findings) -> RotatorRule | None:
    if node is None:
        return None
    if kind == "jwt_signing_key":
        findings.note(node, where, "a signing key has no other end: its public half is published (jwks)")
    if not isinstance(node, MappingNode):
        findings.misfit(node, where, "a mapping with a kind")
        return None
    before = findings.count
    members = d.plain(node, where, findings)
    if findings.count > before or not isinstance(members, dict):
        return None
    try:
        return configure(members)
    except Misconfigured as error:
        place = ".".join((where, *error.path))
        findings.note(d.descend(node, error.path), place, error.complaint)
        return None


def _period(
    members: dict[str, Node], what: str, where: str, findings: d.Findings, *, least_ms: int
) -> int | UnsetType | None:
    """Return `{what}_period` or `{what}_days` in milliseconds; None for never, UNSET without either."""
    period, days = members.get(f"{what}_period"), members.get(f"{what}_days")
    if period is not None and days is not None:
        findings.note(period, f"{where}.{what}_period", f"{what}_days says the same; keep one of the two")
        return UNSET
    if period is not None:
        return _duration(period, f"{where}.{what}_period", findings, least_ms)
    if days is not None:
        count = d.integer_of(days)
        if count is not None and least_ms <= count * DAY_MS <= _MAX_DAYS * DAY_MS:
            return count * DAY_MS
        findings.misfit(days, f"{where}.{what}_days", f"a whole number from {min(least_ms, 1)} to {_MAX_DAYS}")
    return UNSET


def _duration(node: Node, where: str, findings: d.Findings, least_ms: int) -> int | UnsetType | None:
    text = d.text_of(node)
    if text is None:
        findings.misfit(node, where, 'a duration in quotes ("90d", "12h", "30m", "45s") or never')
        return UNSET
    try:
        milliseconds = parse_duration(text)
    except ValueError as error:
        findings.note(node, where, f"found {shown(text)}; allowed: {error}")
        return UNSET
    if milliseconds is not None and milliseconds < least_ms:
        findings.note(node, where, f'found {shown(text)}; allowed: at least "{least_ms // 1000}s"')
        return UNSET
    return milliseconds
