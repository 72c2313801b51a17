import numpy as np

from bot.similar import Neighbour, SimilarIndex


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, dtype=np.float32)
    return vector / np.linalg.norm(vector)


def make(capacity: int = 10) -> SimilarIndex:
    index = SimilarIndex(capacity)
    index.reset("a")
    for number, vector in enumerate([unit(1, 0), unit(1, 1), unit(0, 1)], start=1):
        index.add(Neighbour(number, f"label{number}", "text"), vector, digest="a")
    return index


def test_nearest_come_first_and_the_ticket_itself_is_left_out():
    found = make().search(unit(1, 0.1), digest="a", limit=2, without=1)
    assert [n.ticket_id for n in found] == [2, 3]
    assert found[0].similarity > found[1].similarity


def test_embeddings_of_another_adapter_find_and_add_nothing():
    index = make()
    assert index.search(unit(1, 0), digest="b", limit=3) == ()
    index.add(Neighbour(9, "x", "t"), unit(1, 0), digest="b")
    assert len(index) == 3


def test_a_reset_forgets_everything():
    index = make()
    index.reset("b")
    assert len(index) == 0
    assert index.search(unit(1, 0), digest="b", limit=3) == ()


def test_the_oldest_goes_when_it_is_full_and_a_ticket_counts_once():
    index = make(capacity=3)
    index.add(Neighbour(1, "changed", "text"), unit(1, 0), digest="a")
    index.add(Neighbour(4, "label4", "text"), unit(1, 0), digest="a")
    found = {n.ticket_id: n.label for n in index.search(unit(1, 0), digest="a", limit=10)}
    assert found == {1: "changed", 3: "label3", 4: "label4"}


def test_a_rebuild_goes_in_as_the_oldest_and_replaces_nothing():
    index = SimilarIndex(3)
    index.reset("a")
    index.add(Neighbour(7, "decided now", "text"), unit(1, 0), digest="a")
    for ticket_id in (7, 6, 5, 4):  # newest first; 4 finds no room
        index.add(Neighbour(ticket_id, "past", "text"), unit(0, 1), digest="a", is_rebuild=True)
    found = {n.ticket_id: n.label for n in index.search(unit(1, 0), digest="a", limit=10)}
    assert found == {7: "decided now", 6: "past", 5: "past"}
    index.add(Neighbour(8, "newest", "text"), unit(1, 0), digest="a")
    assert {n.ticket_id for n in index.search(unit(1, 0), digest="a", limit=10)} == {8, 7, 6}


def test_a_removed_ticket_is_not_found_nor_brought_back_by_a_rebuild_but_by_a_decision():
    index = make()
    index.search(unit(1, 0), digest="a", limit=1)
    index.remove(1)
    index.remove(99)
    index.add(Neighbour(1, "past", "text"), unit(1, 0), digest="a", is_rebuild=True)
    assert {n.ticket_id for n in index.search(unit(1, 0), digest="a", limit=10)} == {2, 3}
    index.add(Neighbour(1, "decided again", "text"), unit(1, 0), digest="a")
    assert index.search(unit(1, 0), digest="a", limit=1)[0].label == "decided again"
