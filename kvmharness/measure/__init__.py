"""Where figures come from: KVM's statistics, perf events on the vCPU thread, and clocks."""
