"""A test of nested virtualization: L1 enters L2 through changing roots, and KVM's root cache must serve them all."""


def test_three_roots_on_each_side_stay_cached(nested, root_loads):
    pair = nested(host_cr3s=3, guest_cr3s=3)
    pair.run(20)  # fills the cache; each round trip reads through L2's new tables and L1's, and checks the tags
    with root_loads() as roots:
        pair.run(30)
    assert pair.round_trips == 50
    assert roots.switches >= 2 * 30
    assert roots.loads == 0
