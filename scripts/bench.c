/*
 * The C side of scripts/bench: the same guest, the same loop, nothing else.
 *
 * Usage: bench GUEST, where GUEST holds struct kvm_regs, struct kvm_sregs and the guest's memory, one after the other.
 * Then it reads requests from standard input, one a line, and answers each with the nanoseconds it took:
 *   exits N       runs the guest until it has made N exits
 *   lifecycle N   N times: create a VM, its memory and a vCPU, set its registers, run it to its first exit, destroy it
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MEMORY_BYTES 0x400000UL
#define CODE_GPA 0x8000UL
#define CPUID_ENTRIES 256

struct guest {
	int vm, vcpu;
	struct kvm_run *run;
	char *memory;
};

static int kvm, run_bytes;

static void die(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int check(int ret, const char *what)
{
	if (ret < 0)
		die(what);
	return ret;
}

static struct guest create(void)
{
	struct guest guest;
	struct kvm_userspace_memory_region region = { .memory_size = MEMORY_BYTES };

	guest.vm = check(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	guest.memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (guest.memory == MAP_FAILED)
		die("mmap of guest memory");
	region.userspace_addr = (unsigned long)guest.memory;
	check(ioctl(guest.vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
	guest.vcpu = check(ioctl(guest.vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	guest.run = mmap(NULL, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, guest.vcpu, 0);
	if (guest.run == MAP_FAILED)
		die("mmap of kvm_run");
	return guest;
}

static void destroy(struct guest *guest)
{
	munmap(guest->run, run_bytes);
	close(guest->vcpu);
	close(guest->vm);
	munmap(guest->memory, MEMORY_BYTES);
}

static struct guest load(const char *path)
{
	static struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 entries[CPUID_ENTRIES]; } cpuid;
	struct guest guest = create();
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	FILE *file = fopen(path, "rb");

	if (!file || fread(&regs, sizeof(regs), 1, file) != 1 || fread(&sregs, sizeof(sregs), 1, file) != 1 ||
	    fread(guest.memory, MEMORY_BYTES, 1, file) != 1)
		die(path);
	fclose(file);
	cpuid.head.nent = CPUID_ENTRIES;
	check(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid), "KVM_GET_SUPPORTED_CPUID");
	check(ioctl(guest.vcpu, KVM_SET_CPUID2, &cpuid), "KVM_SET_CPUID2");
	check(ioctl(guest.vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	check(ioctl(guest.vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
	return guest;
}

static void exits(struct guest *guest, long count)
{
	while (count--) {
		check(ioctl(guest->vcpu, KVM_RUN, 0), "KVM_RUN");
		if (guest->run->exit_reason != KVM_EXIT_IO)
			exit(2);
	}
}

static void lifecycle(long count)
{
	static const char halt[] = { (char)0xf4 };
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	while (count--) {
		struct guest guest = create();

		memcpy(guest.memory + CODE_GPA, halt, sizeof(halt));
		check(ioctl(guest.vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
		sregs.cs.base = sregs.cs.selector = 0;
		check(ioctl(guest.vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
		check(ioctl(guest.vcpu, KVM_GET_REGS, &regs), "KVM_GET_REGS");
		regs.rip = CODE_GPA;
		regs.rflags = 2;
		check(ioctl(guest.vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
		check(ioctl(guest.vcpu, KVM_RUN, 0), "KVM_RUN");
		if (guest.run->exit_reason != KVM_EXIT_HLT)
			exit(2);
		destroy(&guest);
	}
}

static void vms(long count)
{
	while (count--)
		close(check(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM"));
}

int main(int argc, char **argv)
{
	struct timespec from, to;
	struct guest guest;
	char what[16];
	long count;

	if (argc != 2)
		return 2;
	kvm = check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	run_bytes = check(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
	guest = load(argv[1]);
	while (scanf("%15s %ld", what, &count) == 2) {
		clock_gettime(CLOCK_MONOTONIC, &from);
		if (!strcmp(what, "exits"))
			exits(&guest, count);
		else if (!strcmp(what, "vms"))
			vms(count);
		else
			lifecycle(count);
		clock_gettime(CLOCK_MONOTONIC, &to);
		printf("%ld\n", (to.tv_sec - from.tv_sec) * 1000000000L + to.tv_nsec - from.tv_nsec);
		fflush(stdout);
	}
	destroy(&guest);
	return 0;
}
