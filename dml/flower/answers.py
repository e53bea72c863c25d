"""What the server of a deployment answers to a round's predictions: one sum, or what a rule makes of them."""

from collections.abc import Callable, Mapping

from dml.arms import messaging
from dml.arms.federation import Federation
from dml.exchange.messages import Message
from dml.exchange.topologies import add_up
from dml.flower.roll_call import RollCall
from dml.flower.settings import FORM, Settings

Answer = Callable[[list], Mapping[int, Message]]  # messages that are believed -> what each client gets
HARDLY = 0.5  # of a weight that is 1 on average: who counts for less goes on record


def of(settings: Settings, fed: Federation, roll_call: RollCall) -> Answer:
    """The answer by the run's rule."""
    return _summed(fed) if settings.rule == "mean" else _judged(settings, fed, roll_call)


def _summed(fed: Federation) -> Answer:
    def answer(received: list) -> Mapping[int, Message]:
        if not received:
            return {}
        labels = messaging.public_labels(fed, received[0].round)
        contributions, total = add_up(FORM, received, labels, fed.experiment.clip)
        return dict.fromkeys(contributions, total) if total else {}

    return answer


def _judged(settings: Settings, fed: Federation, roll_call: RollCall) -> Answer:
    from dml.hostile.arms import Answer as Rule  # an annex

    rule = Rule(fed, settings.rule, settings.expected, FORM, fed.experiment.clip)

    def answer(received: list) -> Mapping[int, Message]:
        if not rule.enough(received):
            return {}
        if rule.alone:
            return rule.tables(received)
        total = rule.total(received)
        for index in (said.sender for said in received):
            if total.weights[index] < HARDLY:
                roll_call.event(total.round, index, "hardly believed", f"weight {total.weights[index]:.2f}")
        return dict.fromkeys((said.sender for said in received), total)

    return answer
