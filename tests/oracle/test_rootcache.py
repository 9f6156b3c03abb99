"""The oracle against the misses per round trip that are known for each set-up, and against its own rules.

The numbers of the tables were worked out by hand from the kernel's source, some also counted on Linux 6.1.192.
"""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmharness.oracle.rootcache.simulation import Calls, Features, Role, RootCache, predict, steady
from kvmharness.oracle.scenario import Scenario
from tests.oracle.kernels import BOTH, NONE, P1, P2

ALL = (NONE, P1, P2, BOTH)
L1 = Role(direct=True, guest_mode=False)
SHADOW = Role(direct=False, guest_mode=False)
NOFLUSH = 1 << 63


def cr3s(count: int, first: int = 0x10) -> tuple[int, ...]:
    return tuple((first + i) << 12 for i in range(count))


def pcids(count: int, table: int = 0x10000) -> tuple[int, ...]:
    return tuple(table + 1 + i for i in range(count))


def no_ept(n1: int, n2: int, *, l0_tdp: bool = True, **more: object) -> Scenario:
    return Scenario(l0_tdp, False, cr3s(n1), cr3s(n2, 0x80), **more)  # type: ignore[arg-type]


def with_ept(n1: int, eptps: tuple[int, ...], **more: object) -> Scenario:
    return Scenario(True, True, cr3s(n1), cr3s(1, 0x80), eptps, **more)  # type: ignore[arg-type]


def alone(*cr3: int, l0_tdp: bool = False, **more: object) -> Scenario:
    return Scenario(l0_tdp, None, cr3, **more)  # type: ignore[arg-type]


def eptps(count: int) -> tuple[int, ...]:
    return tuple((0x200 + i) << 12 | 0x5E for i in range(count))


def aabb(count: int) -> tuple[int, ...]:
    return tuple(eptp for eptp in eptps(count) for _ in range(2))


def per_round_trip(scenario: Scenario) -> tuple[Fraction, ...]:
    return tuple(steady(scenario, features) for features in ALL)


class TestSteadyState:
    @pytest.mark.parametrize(
        ("n1", "n2", "misses"),
        [
            *((1, 1, 0), (2, 1, 0), (2, 2, 0), (3, 1, 0), (1, 3, 0)),
            *((1, 4, 1), (2, 3, 1), (4, 1, 1), (3, 2, 1), (3, 3, 2), (4, 4, 2), (8, 8, 2)),
        ],
    )
    def test_a_without_ept12_is_saved_by_patch_1(self, n1: int, n2: int, misses: int) -> None:
        assert per_round_trip(no_ept(n1, n2)) == (misses, 0, misses, 0)

    @pytest.mark.parametrize(("n1", "misses"), [(1, 0), (2, 0), (3, 0), (4, 0), (5, 1), (8, 1)])
    def test_b_one_eptp_is_saved_by_patch_1(self, n1: int, misses: int) -> None:
        assert per_round_trip(with_ept(n1, eptps(1))) == (misses, 0, misses, 0)

    @pytest.mark.parametrize("invept_global", [False, True])
    def test_b_each_invept_costs_two_without_patch_2_and_one_with_it(self, invept_global: bool) -> None:
        scenario = with_ept(1, eptps(1), invept_every=8, invept_global=invept_global)
        assert per_round_trip(scenario) == (Fraction(2, 8), Fraction(2, 8), Fraction(1, 8), Fraction(1, 8))

    @pytest.mark.parametrize(("count", "misses"), [(1, 0), (2, 0), (3, 0), (4, 0), (5, 1), (8, 1)])
    def test_c_eptps_in_turn_are_saved_by_nobody(self, count: int, misses: int) -> None:
        assert per_round_trip(with_ept(1, eptps(count))) == (misses,) * 4

    @pytest.mark.parametrize(
        ("count", "without", "with_patch_2"),
        [(1, 0, 0), (2, 0, 0), (3, 1, 0), (4, 1, 0), (5, 1, Fraction(1, 2)), (8, 1, Fraction(1, 2))],
    )
    def test_c_each_eptp_twice_is_saved_by_patch_2(self, count: int, without: Fraction, with_patch_2: Fraction) -> None:
        assert per_round_trip(with_ept(1, aabb(count))) == (without, without, with_patch_2, with_patch_2)

    @pytest.mark.parametrize(("count", "misses"), [(1, 0), (2, 0), (4, 0), (5, 1), (8, 1)])
    def test_d_l1_alone_under_shadow_paging_is_saved_by_nobody(self, count: int, misses: int) -> None:
        assert per_round_trip(alone(*cr3s(count))) == (misses,) * 4

    @pytest.mark.parametrize("count", [1, 5])
    def test_d_moves_do_not_even_exit_when_l0_has_ept(self, count: int) -> None:
        for features in ALL:
            assert predict(alone(*cr3s(count), l0_tdp=True), features, 0, 20) == (0, 0)

    @pytest.mark.parametrize(
        ("n1", "n2", "misses"), [(1, 1, 0), (2, 2, 0), (1, 3, 0), (1, 4, 1), (2, 3, 1), (3, 3, 2), (4, 4, 2)]
    )
    def test_e_shadow_paging_is_saved_by_nobody(self, n1: int, n2: int, misses: int) -> None:
        assert per_round_trip(no_ept(n1, n2, l0_tdp=False)) == (misses,) * 4


class TestOtherSizes:
    @pytest.mark.parametrize(("n1", "n2", "misses"), [(3, 3, 0), (6, 6, 2)])
    def test_a_cache_of_six_holds_what_one_of_four_does_not(self, n1: int, n2: int, misses: int) -> None:
        assert steady(no_ept(n1, n2), NONE._replace(previous_roots=5)) == misses

    @pytest.mark.parametrize(("count", "misses"), [(1, 0), (2, 1)])
    def test_without_previous_roots_every_change_misses(self, count: int, misses: int) -> None:
        assert steady(alone(*cr3s(count)), BOTH._replace(previous_roots=0)) == misses


class TestPcid:
    @pytest.mark.parametrize(("n1", "n2", "misses"), [(1, 1, 0), (2, 3, 1), (3, 3, 2)])
    def test_one_table_under_several_pcids_has_several_keys(self, n1: int, n2: int, misses: int) -> None:
        scenario = Scenario(True, False, pcids(n1), pcids(n2, 0x80000), pcid=True)
        assert per_round_trip(scenario) == (misses, 0, misses, 0)

    def test_moves_with_flush_between_pcids_keep_the_other_pcids_roots(self) -> None:
        assert per_round_trip(alone(*pcids(4), pcid=True)) == (0,) * 4
        assert per_round_trip(alone(*pcids(5), pcid=True)) == (1,) * 4

    def test_a_move_with_flush_frees_previous_roots_of_the_same_pcid(self) -> None:
        same_pcid = tuple(table | 7 for table in cr3s(3))
        assert per_round_trip(alone(*same_pcid, pcid=True)) == (1,) * 4
        assert per_round_trip(alone(*(cr3 | NOFLUSH for cr3 in same_pcid), pcid=True)) == (0,) * 4

    def test_noflush_is_no_part_of_the_key(self) -> None:
        plain, kept = 0x10001, 0x10001 | NOFLUSH
        assert predict(alone(plain, kept, pcid=True), BOTH, 0, 10) == (0, 0)


class TestFirstUse:
    """A whole run from the first round trip on; loads of L1's start are not in the window."""

    def test_with_the_series_only_l2s_first_root_is_loaded(self) -> None:
        assert predict(no_ept(3, 3), BOTH, 0, 450) == Calls(loads=1, switches=900)

    def test_without_it_every_switch_misses_but_the_first_return(self) -> None:
        # Both rounds' keys differ from the four cached ones throughout; the first nested exit returns to L1's own root.
        assert predict(no_ept(3, 3), NONE, 0, 450) == Calls(loads=899, switches=900)

    def test_one_hundred_round_trips_of_three_roots_each(self) -> None:
        assert predict(no_ept(3, 3), NONE, 10, 100) == Calls(loads=200, switches=200)
        assert predict(no_ept(3, 3), BOTH, 10, 100) == Calls(loads=0, switches=200)

    def test_without_patch_2_each_mmu_makes_a_duplicate_before_it_hits(self) -> None:
        # L2: first use and its duplicate; L1: loaded at the start, so only its duplicate.
        assert predict(with_ept(1, eptps(1)), NONE, 0, 10) == Calls(loads=3, switches=20)
        assert predict(with_ept(1, eptps(1)), P1, 0, 10) == Calls(loads=3, switches=20)
        assert predict(with_ept(1, eptps(1)), P2, 0, 10) == Calls(loads=1, switches=20)

    def test_a_boot_cr3_of_its_own_costs_one_load_more_without_patch_1(self) -> None:
        assert predict(no_ept(1, 1, boot_cr3=0x5000), NONE, 0, 10) == Calls(loads=2, switches=20)
        assert predict(no_ept(1, 1, boot_cr3=0x5000), P1, 0, 10) == Calls(loads=1, switches=20)

    def test_a_move_to_the_cr3_already_there_is_no_switch(self) -> None:
        assert predict(alone(*cr3s(1)), BOTH, 0, 10) == (0, 0)
        assert predict(alone(*cr3s(2)), BOTH, 0, 10) == Calls(loads=1, switches=9)


class TestEvents:
    def test_invept_spares_other_eptps(self) -> None:
        # Two EPTPs in turn; INVEPT of the first one only, as round trips 0, 2, 4... all use it.
        assert per_round_trip(with_ept(1, eptps(2), invept_every=2))[3] == Fraction(1, 2)
        assert per_round_trip(with_ept(1, eptps(2), invept_every=2, invept_global=True))[3] == 1

    def test_invept_does_not_touch_l1s_roots(self) -> None:
        assert predict(with_ept(1, eptps(1), invept_every=1), BOTH, 10, 100) == Calls(100, 200)

    def test_an_eptp_with_its_ad_flag_clear_is_another_root(self) -> None:
        one_table = (0x20000 | 0x5E, 0x20000 | 0x1E)
        assert predict(with_ept(1, one_table), BOTH, 0, 10).loads == 2
        assert steady(with_ept(1, one_table, invept_every=2), BOTH) == 1  # but INVEPT frees both

    def test_a_memslot_change_frees_the_roots_of_both_mmus(self) -> None:
        scenario = with_ept(1, eptps(1), memslot_changes=(50,))
        assert predict(scenario, BOTH, 40, 20).loads == 2
        assert predict(scenario, NONE, 40, 20).loads == 4  # and the duplicates
        assert predict(scenario, BOTH, 51, 20).loads == 0
        assert predict(no_ept(1, 1, memslot_changes=(50,)), BOTH, 40, 20).loads == 2

    def test_the_steady_state_leaves_memslot_changes_out(self) -> None:
        assert steady(with_ept(1, eptps(1), memslot_changes=(0, 1, 2)), BOTH) == 0


class TestWhoMovesCr3:
    def test_l2_moving_its_own_cr3_is_invisible_under_tdp(self) -> None:
        moving = no_ept(1, 1, l2_mov_cr3=cr3s(5, 0xC0))
        assert predict(moving, NONE, 0, 50) == predict(no_ept(1, 1), NONE, 0, 50)

    def test_l2_moving_its_own_cr3_is_a_switch_under_shadow_paging(self) -> None:
        moving = no_ept(1, 1, l0_tdp=False, l2_mov_cr3=cr3s(2, 0xC0))
        assert predict(moving, BOTH, 10, 100) == Calls(loads=0, switches=300)
        assert (
            steady(no_ept(1, 1, l0_tdp=False, l2_mov_cr3=cr3s(3, 0xC0)), BOTH) == 1
        )  # 5 roots; only the rotating ones get old

    def test_l1_moving_its_own_cr3_before_entry_saves_nothing_under_tdp(self) -> None:
        assert predict(no_ept(3, 3, l1_mov_cr3=True), NONE, 10, 100) == predict(no_ept(3, 3), NONE, 10, 100)

    def test_l1_moving_its_own_cr3_before_entry_adds_switches_under_shadow_paging(self) -> None:
        moving = no_ept(2, 1, l0_tdp=False, l1_mov_cr3=True)
        assert predict(moving, BOTH, 10, 100) == Calls(loads=0, switches=300)


class TestCache:
    def test_previous_roots_stay_in_order_of_use(self) -> None:
        cache = RootCache(BOTH)
        for pgd in (1, 2, 3, 4):
            assert not cache.switch(pgd, SHADOW)
            cache.load(pgd, SHADOW)
        assert [root and root.pgd for root in (cache.current, *cache.previous)] == [4, 3, 2, 1]
        assert cache.switch(2, SHADOW)
        assert [root and root.pgd for root in (cache.current, *cache.previous)] == [2, 4, 3, 1]

    def test_a_miss_evicts_the_least_recently_used_one(self) -> None:
        cache = RootCache(BOTH)
        for pgd in (1, 2, 3, 4, 5):
            cache.switch(pgd, SHADOW)
            cache.load(pgd, SHADOW)
        assert not cache.switch(1, SHADOW)
        assert cache.current is None

    def test_without_a_current_root_a_hit_closes_the_gap(self) -> None:
        cache = RootCache(BOTH)
        for pgd in (1, 2, 3, 4):
            cache.switch(pgd, SHADOW)
            cache.load(pgd, SHADOW)
        cache.free_roots(lambda root: root.pgd == 4)
        assert cache.current is None
        assert cache.switch(3, SHADOW)
        assert [root and root.pgd for root in (cache.current, *cache.previous)] == [3, 2, 1, None]

    def test_a_direct_root_is_found_under_any_pgd_with_patch_1_only(self) -> None:
        for features, found in ((NONE, False), (P1, False), (P2, False), (BOTH, True)):
            cache = RootCache(features)
            cache.load(0x1000, L1)
            assert cache.switch(0x2000, L1) is found

    def test_freeing_can_leave_the_current_root_alone(self) -> None:
        cache = RootCache(BOTH)
        cache.load(1, SHADOW)
        cache.free_roots(lambda _: True, current=False)
        assert cache.current is not None


class TestScenario:
    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ((True, None, ()), "CR3 for L1"),
            ((True, False, (1,)), "CR3 for L2"),
            ((True, True, (1,), (2,)), "EPTP"),
            ((False, True, (1,), (2,), (3,)), "L0 has none"),
        ],
    )
    def test_refuses_what_cannot_be(self, arguments: tuple[object, ...], complaint: str) -> None:
        with pytest.raises(ValueError, match=complaint):
            Scenario(*arguments)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(
    n1=st.integers(1, 6),
    n2=st.integers(1, 6),
    l0_tdp=st.booleans(),
    features=st.sampled_from(ALL),
    laps=st.integers(1, 3),
)
def test_a_long_window_agrees_with_the_steady_state(
    n1: int, n2: int, l0_tdp: bool, features: Features, laps: int
) -> None:
    scenario = no_ept(n1, n2, l0_tdp=l0_tdp)
    window = scenario.period * laps
    assert predict(scenario, features, scenario.period * 10, window).loads == steady(scenario, features) * window
