"""Properties of the batch picker, without any model."""

from hypothesis import given
from hypothesis import strategies as st

from bot.engine.protocol import Priority
from bot.engine.scheduler import (
    BULK_TURN,
    MIXED_TOKENS,
    Item,
    choose_group,
    choose_waiting,
    count_held,
    is_bulk_turn,
    pick_batch,
    share_tokens,
)

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


wants = st.lists(st.integers(0, 600), max_size=30)


@given(wants, st.integers(0, 512), st.integers(1, 128))
def test_shares_fill_the_room_and_exceed_no_wish(wants, room, limit):
    shares = share_tokens(wants, room=room, limit=limit)
    assert all(0 <= share <= want for share, want in zip(shares, wants, strict=True))
    assert sum(shares) == min(room, sum(wants))


@given(st.integers(65, 2000), st.lists(st.integers(1, 64), min_size=1, max_size=7))
def test_a_long_prompt_leaves_room_for_the_short_ones_behind_it(long, short):
    assert share_tokens([long, *short], room=512, limit=64)[1:] == short


@given(queues(min_size=1))
def test_everything_that_waits_is_admitted_and_bulk_at_its_turn(items):
    left, admitted = list(items), []
    while left:
        chosen = left.pop(choose_waiting(left, turn=len(admitted), n_running={}))
        if is_bulk_turn(len(admitted)) and any(item.priority == Priority.BULK for item in [chosen, *left]):
            assert chosen.priority == Priority.BULK
        admitted.append(chosen)
    assert sorted(item.order for item in admitted) == [item.order for item in items]


def test_the_group_with_fewest_running_is_admitted_first():
    items = [Item(n_tokens=10, group=group, order=order) for order, group in enumerate("AAB")]
    assert items[choose_waiting(items, turn=0, n_running={"A": 3, "B": 1})].group == "B"
    assert choose_waiting(items, turn=0, n_running={}) == 0


@given(queues(min_size=1), st.integers(0, 50))
def test_bulk_work_fills_only_a_small_batch_while_interactive_work_waits(items, step):
    picked = [items[index] for index in pick(items, step=step)]
    if all(item.priority == Priority.BULK for item in items):
        return
    used = 0
    for place, item in enumerate(picked):
        used += item.n_tokens
        assert place == 0 or item.priority == Priority.INTERACTIVE or used <= MIXED_TOKENS


def test_bulk_work_alone_fills_the_whole_batch():
    items = [Item(n_tokens=60, group="A", order=order, priority=Priority.BULK) for order in range(5)]
    assert pick(items) == [0, 1, 2]


@given(st.integers(0, 100), st.integers(0, 10), st.floats(0, 1))
def test_prompts_are_held_back_only_where_all_would_branch_at_once(n_prompts, n_branching, share):
    held = count_held(n_prompts, n_branching=n_branching, share_branching=share)
    assert held in {0, n_prompts // 2}
    assert held < max(n_prompts, 1)
    if n_branching or share <= 0.5:
        assert held == 0


def test_half_of_the_prompts_wait_where_most_tickets_branch():
    assert count_held(8, n_branching=0, share_branching=0.9) == 4
