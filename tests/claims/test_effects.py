from kvmharness.claims.effects import Effect, effect_lines

ORDER = {"none": 0, "p1": 1, "both": 2}


def effect(cell, variant, before, after, host=""):
    return Effect("root loads", cell, variant, before, after, "per round trip", host)


def test_each_patch_is_told_with_what_it_saves():
    found = [
        effect("c:3/AABB", "both", 1, 0),
        effect("a:3x3", "p1", 2, 0),
        effect("a:3x3", "both", 2, 0),
    ]
    assert effect_lines(found, ORDER) == (
        "root loads lower since p1, per round trip: a:3x3 2 -> 0",
        "root loads lower since both, per round trip: c:3/AABB 1 -> 0",
    )


def test_what_a_later_patch_takes_back_is_no_effect():
    assert effect_lines([effect("a:3x3", "p1", 2, 0)], ORDER) == ()


def test_cells_of_several_hosts_are_told_apart():
    found = [effect("a:3x3", "both", before, 1, host) for host, before in (("vmx", 2), ("svm", 4))]
    assert effect_lines(found, ORDER) == (
        "root loads lower since both, per round trip: svm a:3x3 4 -> 1, vmx a:3x3 2 -> 1",
    )


def test_the_largest_gains_are_named_and_the_others_counted():
    found = [effect(f"a:{number}x1", "both", number, 0.5) for number in range(1, 6)]
    (line,) = effect_lines(found, ORDER)
    assert line.endswith("a:5x1 5 -> 0.5, a:4x1 4 -> 0.5, a:3x1 3 -> 0.5 and 2 more")
