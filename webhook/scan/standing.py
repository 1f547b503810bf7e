"""How what runs stands to the rules of today: findings by the workload that they are about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from admission.admission_review import AdmissionRequest, GroupVersionKind, UserInfo
from admission.decision import Decision, Purpose
from admission.finding import Action, JudgedFinding
from admission.pod_schema import MalformedObjectError
from admission.subject import TooManyContainersError
from admission.validator import PolicyError
from admission.workload import controller_user
from webhook.reviewer import Reviewer
from webhook.scan.live_objects import controller_of

OwnerOf = Callable[[str, str, str], tuple[str, str] | None]
"""Kind and name of what controls an object, by namespace, kind and name."""
_UID = "scan"


@dataclass(frozen=True, slots=True)
class Place:
    """A workload, or a pod that nothing made."""

    namespace: str
    kind: str
    name: str


@dataclass(slots=True)
class Standing:
    """One finding about one workload; ``pods`` are those of its pods that have it.

    ``lapsed``: the model was approved once, and is revoked or expired.
    """

    place: Place
    judged: JudgedFinding
    model: str
    api_version: str
    pods: list[str] = field(default_factory=list)

    @property
    def lapsed(self) -> bool:
        """Whether it is about an approval that held once and does no more."""
        return self.judged.finding.rule == "approved-version" and (
            self.judged.finding.lapse or self.judged.finding.always
        )


@dataclass(slots=True)
class Scan:
    """What was seen: numbers of objects, the model workloads among them, and the findings."""

    objects: int = 0
    places: set[Place] = field(default_factory=set)
    standings: dict[tuple[Place, str, str, str], Standing] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def found(self) -> list[Standing]:
        """Revoked and expired first, then what would be refused, by namespace and name."""
        return sorted(
            self.standings.values(),
            key=lambda one: (
                not one.lapsed,
                -one.judged.action.strictness,
                one.place.namespace,
                one.place.kind,
                one.place.name,
                one.judged.finding.rule,
            ),
        )

    def places_with(self, action: Action) -> int:
        """How many workloads have a finding of this action."""
        return len({one.place for one in self.standings.values() if one.judged.action is action})

    def take(self, obj: Mapping[str, Any], place: Place, decision: Decision) -> None:
        """Keep what one object's review came to."""
        self.objects += 1
        if decision.ignored or not decision.recognised:
            return
        self.places.add(place)
        for judged in decision.findings:
            finding = judged.finding
            key = (place, finding.rule, finding.container, finding.message)
            standing = self.standings.get(key)
            if standing is None:
                model = decision.model.text if decision.model.name else ""
                standing = Standing(place, judged, model, str(obj.get("apiVersion") or ""))
                self.standings[key] = standing
            elif judged.action.strictness > standing.judged.action.strictness:
                standing.judged = judged
            if obj.get("kind") == "Pod" and place.kind != "Pod":
                standing.pods.append(str(obj["metadata"].get("name")))


async def scan(objects: Iterable[Mapping[str, Any]], reviewer: Reviewer, owner_of: OwnerOf, result: Scan) -> None:
    """Judge each object as it is, as if it came in now from the controller that made it."""
    for obj in objects:
        owner = controller_of(dict(obj))
        metadata = obj["metadata"]
        namespace, name = str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
        place = _top(namespace, (str(obj["kind"]), name), owner, owner_of)
        user = controller_user(owner[0], reviewer.controllers) if owner is not None else ""
        group, _, version = str(obj["apiVersion"]).rpartition("/")
        request = AdmissionRequest(
            uid=_UID,
            kind=GroupVersionKind(group=group, version=version, kind=str(obj["kind"])),
            operation="CREATE",
            name=name,
            namespace=namespace,
            userInfo=UserInfo(username=user),
            object=dict(obj),
            dryRun=True,
        )
        try:
            decision = await reviewer.judge(request, Purpose.VALIDATE)
        except (MalformedObjectError, TooManyContainersError, PolicyError) as error:
            result.objects += 1
            result.problems.append(f"{obj['kind']} {namespace}/{name} was not judged: {error}")
            continue
        result.take(obj, place, decision)


def _top(namespace: str, own: tuple[str, str], owner: tuple[str, str] | None, owner_of: OwnerOf) -> Place:
    """The topmost owner that is known."""
    top = own
    while owner is not None:
        top = owner
        owner = owner_of(namespace, *top)
    return Place(namespace, *top)
