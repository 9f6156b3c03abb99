"""The four kernels of the series "Fast CR3 switch improvements", as the root cache's model sees them."""

from kvmharness.oracle.rootcache.simulation import Features

NONE = Features(ignore_direct_pgd=False, reuse_current=False)
P1 = Features(ignore_direct_pgd=True, reuse_current=False)
P2 = Features(ignore_direct_pgd=False, reuse_current=True)
BOTH = Features(ignore_direct_pgd=True, reuse_current=True)
