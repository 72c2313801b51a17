"""Properties of the batch picker, without any model."""

from hypothesis import given
from hypothesis import strategies as st

from bot.engine.protocol import Priority
from bot.engine.scheduler import BULK_TURN, Item, choose_group, is_bulk_turn, pick_batch

BUDGET = 192


@st.composite
def queues(draw, min_size=0):
    sizes = draw(st.lists(st.integers(1, 256), min_size=min_size, max_size=40))
    return [
        Item(n_tokens=size, group=draw(st.sampled_from("ABC")), order=order, priority=draw(st.sampled_from(Priority)))
        for order, size in enumerate(sizes)
    ]


def pick(items, *, step=0, last_served=None, max_items=32):
    return pick_batch(items, step=step, last_served=last_served or {}, budget_tokens=BUDGET, max_items=max_items)


@given(queues(), st.integers(0, 50), st.integers(1, 8))
def test_a_batch_is_of_one_group_within_budget_and_without_repeats(items, step, max_items):
    picked = pick(items, step=step, max_items=max_items)
    assert len(set(picked)) == len(picked) <= max_items
    assert bool(picked) == bool(items)
    assert len({items[index].group for index in picked}) <= 1
    assert len(picked) <= 1 or sum(items[index].n_tokens for index in picked) <= BUDGET


@given(queues(min_size=1), st.integers(0, 50))
def test_an_interactive_item_leads_unless_it_is_the_bulk_turn(items, step):
    leader = items[pick(items, step=step)[0]]
    priorities = {item.priority for item in items}
    assert leader.priority == (max(priorities) if is_bulk_turn(step) else min(priorities))


@given(queues(min_size=1))
def test_the_oldest_of_the_leading_kind_always_runs(items):
    leader = items[pick(items)[0]]
    same = [item.order for item in items if item.group == leader.group and item.priority == leader.priority]
    assert leader.order == min(same)


@given(queues(min_size=1))
def test_every_item_is_served_within_a_bounded_number_of_steps(items):
    left, step, last_served = list(items), 0, {}
    while left:
        picked = pick(left, step=step, last_served=last_served)
        last_served[left[picked[0]].group] = step
        left = [item for index, item in enumerate(left) if index not in picked]
        step += 1
    assert step <= len(items)


@given(st.integers(0, 100))
def test_bulk_work_goes_on_under_endless_interactive_load(start):
    bulk = Item(n_tokens=150, group="A", order=0, priority=Priority.BULK)
    for step in range(start, start + BULK_TURN):
        items = [bulk, *(Item(n_tokens=100, group="A", order=step * 10 + n) for n in range(1, 4))]
        if items[pick(items, step=step)[0]] is bulk:
            return
    raise AssertionError("the bulk item starved")


def test_groups_take_turns_when_all_are_busy():
    items = [Item(n_tokens=10, group=group, order=order) for order, group in enumerate("AAABBC")]
    last_served: dict[str, int] = {}
    turns = []
    for step in range(6):
        turns.append(choose_group(items, step=step, last_served=last_served))
        last_served[turns[-1]] = step
    assert turns == ["A", "B", "C", "A", "B", "C"]
