//@HEAD
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"

//@NUMBERS

/* What the guest does, in its own memory: operands, and then what came of it. */
struct action {
	uint64_t code;		/* gpa of the instructions that do it */
	uint64_t a, b, c;	/* ACT_A, ACT_B, ACT_C in the guest's source */
	uint64_t value, status, detail, address;
};

/* Of status; the vector of an exception is in its low byte. */
#define STATUS_EXCEPTION	0x200	/* detail: error code or RIP; address: CR2 */
//#if NESTED
#define STATUS_REFUSED		0x400	/* value: VM-instruction error */
#define STATUS_EXIT		0x800	/* value: reason; detail: qualification; address: gpa */
//#end

/* Doorbells: OUTs of 32 bits to a port. */
#define DOORBELL	0x4b
#define RUNG_END	0x10	/* the last row is done */
//#if SECOND
#define RUNG_SWITCH	0x11	/* the other vCPU's turn */
//#end
//#if INTERRUPT
#define RUNG_INTERRUPT	0x13	/* an interrupt is wanted now */
//#end
//#if HOST
#define RUNG_HOST	0x12	/* the host's next row */
//#end

#define TAG_MOVED	0x1000000	/* a page of the memory that the memslot is moved to */
#define TAG_MMIO	0x2000000	/* what userspace answers where there is no memory */

/* How the answer of a row is read. */
enum answer { NOTHING, READ, FETCH, PEEK, LOOK, ELOOK, HOST, DIRTY };

struct check {
	const char *row;
	const char *allowed;	/* separated by '|' */
	enum answer kind;
	uint64_t gpa;		/* of the action that answers it */
	uint64_t gva;		/* of the probe, where a fault is to be expected */
};

static const struct check checks[] = {
//@CHECKS
};

static char seen[ARRAY_SIZE(checks)][SEEN_BYTES];
static uint64_t mmio[ARRAY_SIZE(checks)];	/* gpa that userspace had to serve */

//@CODE
/* The guest's memory: 64-bit words, each the one before plus step, stride bytes behind it. */
static const struct run {
	uint64_t gpa, value;
	uint32_t count, stride;
	uint64_t step;
} memory[] = {
//@MEMORY
};

//#if VMX
/* What L1 writes to its VMCS. Control fields say what is wanted, see vmcs_value(). */
static const struct {
	uint64_t field, value;
} vmcs[] = {
//@VMCS
};

//#end
//@ACTIONS
//@SEGMENTS

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
//#if SECOND
static struct kvm_vcpu *other;
//#end
static char *code, *data;
//#if MOVE
static char *spare;	/* where the memslot is moved to */
//#end
//#if SLOT
static bool deleted;
//#end
//#if FLAGS
static uint32_t flags;	/* of the memslot */
//#end
//#if HOST
static size_t next_step;
//#end

static void *guest(uint64_t gpa)
{
	return gpa < DATA_GPA ? code + gpa : data + gpa - DATA_GPA;
}

static void set_slot(uint32_t slot, uint32_t slot_flags, uint64_t gpa, uint64_t size, void *hva)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = slot_flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)hva,
	};

	vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static void set_data_slot(void)
{
//#if SLOT
	if (deleted)
		return;
//#end
//#if FLAGS
	set_slot(1, flags, DATA_GPA, DATA_BYTES, data);
//#else
	set_slot(1, 0, DATA_GPA, DATA_BYTES, data);
//#end
}

static void new_vm(void)
{
	vm = vm_create_barebones();
	vm_ioctl(vm, KVM_SET_TSS_ADDR, (void *)0xfffbd000ul);
	/* The default for so small a guest would have KVM recycle shadow pages all the time. */
	vm_ioctl(vm, KVM_SET_NR_MMU_PAGES, (void *)1024ul);
	set_slot(0, 0, 0, DATA_GPA, code);
	set_data_slot();
}

static struct kvm_vcpu *new_vcpu(uint32_t id)
{
	struct kvm_vcpu *made = __vm_vcpu_add(vm, id);
	struct kvm_regs regs = {
//@REGS
	};
	struct kvm_sregs sregs;

	vcpu_init_cpuid(made, kvm_get_supported_cpuid());
//#if VMX
	vcpu_set_msr(made, MSR_IA32_FEAT_CTL, FEAT_CTL_LOCKED | FEAT_CTL_VMX_ENABLED_OUTSIDE_SMX);
//#end
	vcpu_sregs_get(made, &sregs);
	sregs.cs = code_segment;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data_segment;
	sregs.tr = task_segment;
	sregs.ldt = no_segment;
//@SREGS
	vcpu_sregs_set(made, &sregs);
	vcpu_regs_set(made, &regs);
	return made;
}

//#if VMX
/* A control field: what is wanted, and what this KVM demands besides. */
static uint64_t control(uint32_t msr, uint64_t wanted)
{
	uint64_t offered = vcpu_get_msr(vcpu, msr);

	__TEST_REQUIRE(!(wanted & ~(offered >> 32)),
		       "VMX controls 0x%lx are not offered (MSR 0x%x is 0x%lx)",
		       wanted & ~(offered >> 32), msr, offered);
	return wanted | (uint32_t)offered;
}

static uint64_t vmcs_value(uint64_t field, uint64_t value)
{
	switch (field) {
	case 0x4000:
		return control(MSR_IA32_VMX_TRUE_PINBASED_CTLS, value);
	case 0x4002:
		return control(MSR_IA32_VMX_TRUE_PROCBASED_CTLS, value);
	case 0x400c:
		return control(MSR_IA32_VMX_TRUE_EXIT_CTLS, value);
	case 0x4012:
		return control(MSR_IA32_VMX_TRUE_ENTRY_CTLS, value);
	case 0x401e:
		return control(MSR_IA32_VMX_PROCBASED_CTLS2, value);
	}
	return value;
}

static void fill_vmx(void)
{
	uint32_t revision = vcpu_get_msr(vcpu, MSR_IA32_VMX_BASIC) & 0x7fffffff;
	size_t i;

	memcpy(guest(VMXON_REGION), &revision, sizeof(revision));
	memcpy(guest(VMCS_REGION), &revision, sizeof(revision));
	for (i = 0; i < ARRAY_SIZE(vmcs); i++) {
		uint64_t *pair = guest(VMCS_TABLE + i * sizeof(vmcs[0]));

		pair[0] = vmcs[i].field;
		pair[1] = vmcs_value(vmcs[i].field, vmcs[i].value);
	}
}

//#end
static void fill_actions(uint64_t gpa, const struct action *actions, size_t count)
{
	struct action *to = guest(gpa);
//#if VMX
	size_t i;
//#end

	memcpy(to, actions, count * sizeof(*to));
//#if VMX
	for (i = 0; i < count; i++) {
		if (to[i].code == L1_WRITE_FIELD)
			to[i].b = vmcs_value(to[i].a, to[i].b);
	}
//#end
}

static void fill_memory(void)
{
	const struct run *run;
	uint64_t i;

	for (run = memory; run < memory + ARRAY_SIZE(memory); run++) {
		for (i = 0; i < run->count; i++)
			*(uint64_t *)guest(run->gpa + i * run->stride) = run->value + i * run->step;
	}
//@FILL
}

//#if MOVE
/* The same pages, but their tags say that they are others. */
static void fill_spare(void)
{
	uint64_t *word;
	size_t at;

	for (at = TAG_AT; at < DATA_BYTES; at += 0x1000) {
		word = (uint64_t *)(data + at);
		if (*word)
			*(uint64_t *)(spare + at) = *word + ((uint64_t)TAG_MOVED << 8);
	}
}

//#end
/* What a test prints: the words that its rows are written in. */

static const char *page(uint64_t gpa)
{
	static char text[32];

	if (gpa - DATA_GPA < PAGES * 0x1000ul)
		snprintf(text, sizeof(text), "d%lu", (gpa - DATA_GPA) >> 12);
	else if (gpa - HOLE_GPA < HOLES * 0x1000ul)
		snprintf(text, sizeof(text), "m%lu", (gpa - HOLE_GPA) >> 12);
	else
		snprintf(text, sizeof(text), "0x%lx", gpa);
	return text;
}

static void say_tag(char *text, uint32_t tag)
{
	if (tag & TAG_MMIO)
		snprintf(text, SEEN_BYTES, "mmio %s", page((tag & (TAG_MMIO - 1ul)) << 12));
	else
		snprintf(text, SEEN_BYTES, "%c%u", tag & TAG_MOVED ? 'b' : 'd',
			 tag & (TAG_MOVED - 1));
}

static void say_bits(char *text, bool accessed, bool dirty)
{
	snprintf(text, SEEN_BYTES, "%s%s", accessed ? "A" : "", dirty ? "D" : accessed ? "" : "-");
}

static void say_exception(char *text, const struct check *check, const struct action *action)
{
	const uint64_t with_error_code = 0x227d00;	/* 8, 10 to 14, 17, 21 */
	uint8_t vector = action->status;

	if (vector == 31) {
		sprintf(text, "interrupt");
		return;
	}
	if (vector == 14 || vector == 13)
		text += sprintf(text, vector == 14 ? "#PF" : "#GP");
	else
		text += sprintf(text, "exception %u", vector);
	if (with_error_code >> vector & 1)
		text += sprintf(text, "(0x%lx)", action->detail);
	else
		text += sprintf(text, " at RIP 0x%lx", action->detail);
	if (vector == 14 && action->address - check->gva >= 16)
		sprintf(text, " at 0x%lx", action->address);
}

//#if NESTED
static void say_exit(char *text, const struct action *action)
{
	uint64_t reason = action->value, detail = action->detail;

	if (reason == NESTED_FAULT)
		snprintf(text, SEEN_BYTES, "nested fault %s %s", page(action->address),
			 detail & NESTED_FETCH ? "x" : detail & 2 ? "w" : "r");
//#if VMX
	else if (reason & BIT(31))
		snprintf(text, SEEN_BYTES, "exit 0x%lx", reason);
//#else
	else if (reason == -1ul)
		snprintf(text, SEEN_BYTES, "exit invalid");
//#end
	else
		snprintf(text, SEEN_BYTES, "exit 0x%lx (0x%lx)", reason, detail);
}

//#end
/* What the guest says about a row. */
static void say(size_t i)
{
	const struct check *check = &checks[i];
	const struct action *action = guest(check->gpa);
	uint64_t value = action->value;
	char *text = seen[i];

	if (!action->status)
		snprintf(text, SEEN_BYTES, "did not run");
	else if (action->status & STATUS_EXCEPTION)
		say_exception(text, check, action);
//#if NESTED
	else if (action->status == STATUS_REFUSED)
		snprintf(text, SEEN_BYTES, "refused %lu", value);
	else if (action->status == STATUS_EXIT)
		say_exit(text, action);
//#end
	else if (mmio[i])
		snprintf(text, SEEN_BYTES, "mmio %s", page(mmio[i]));
	else if (check->kind == READ)
		say_tag(text, value >> 8);
	else if (check->kind == FETCH)
		say_tag(text, value);
	else if (check->kind == LOOK)
		say_bits(text, value & BIT(5), value & BIT(6));
//#if NESTED
	else if (check->kind == ELOOK)
		say_bits(text, value & NESTED_A, value & NESTED_D);
//#end
	else if (check->kind == PEEK && !value)
		snprintf(text, SEEN_BYTES, "-");
	else if (check->kind == PEEK)
		snprintf(text, SEEN_BYTES, "w%lu", value >> 48 == 0x5757 ? value & 0xffff : 0);
	else
		snprintf(text, SEEN_BYTES, "done");
}

static bool one_of(const char *list, const char *text)
{
	size_t length = strlen(text);

	while (strncmp(list, text, length) || (list[length] && list[length] != '|')) {
		list = strchr(list, '|');
		if (!list++)
			return false;
	}
	return true;
}

//#if DIRTY
static bool has_word(const char *list, const char *word)
{
	char each[16];
	int length;

	for (; sscanf(list, " %15s%n", each, &length) == 1; list += length) {
		if (!strcmp(each, word))
			return true;
	}
	return false;
}

/* Every page that must be in the log is, and no other one than those that some table led to. */
static bool logged(const char *list, const char *text)
{
	unsigned int number;
	char word[16];
	int length;

	for (; sscanf(list, " %15s%n", word, &length) == 1; list += length) {
		if (*word == 'd' && !has_word(text, word))
			return false;
	}
	for (; sscanf(text, " %15s%n", word, &length) == 1; text += length) {
		if (sscanf(word, "d%u", &number) == 1 &&
		    (number >= PAGES || !(KNOWN_PAGES >> number / 8 & 1)))
			return false;
	}
	return true;
}

//#end
static bool right(size_t i)
{
//#if DIRTY
	if (checks[i].kind == DIRTY)
		return logged(checks[i].allowed, seen[i]);
//#end
	return one_of(checks[i].allowed, seen[i]);
}

/* All rows, in a table; fails where one is wrong, or where there is another reason. */
static void report(const char *reason)
{
	size_t i, wrong = 0;

	for (i = 0; i < ARRAY_SIZE(checks); i++) {
		if (checks[i].kind < HOST)
			say(i);
		else if (!*seen[i])
			snprintf(seen[i], SEEN_BYTES, "did not run");
		wrong += !right(i);
	}
	if (!wrong && !*reason)
		return;
	printf("%4s  %-36s  %-24s  %s\n", "row", "action", "allowed", "seen");
	for (i = 0; i < ARRAY_SIZE(checks); i++)
		printf("%4zu  %-36s  %-24s  %s%s\n", i + 1, checks[i].row, checks[i].allowed,
		       seen[i], right(i) ? "" : "  <-- wrong");
	fflush(stdout);
	errno = 0;
	TEST_FAIL("%s%s%zu rows answered what the architecture does not allow",
		  reason, *reason ? "; " : "", wrong);
}

/* Which row the vCPU stands at: RBX is its action, in L1 and L2 alike. */
static size_t current_row(void)
{
	struct kvm_regs regs;
	size_t i;

	vcpu_regs_get(vcpu, &regs);
	for (i = 0; i < ARRAY_SIZE(checks); i++) {
		if (checks[i].gpa && checks[i].gpa == regs.rbx)
			break;
	}
	return i;
}

static void give_up(const char *what)
{
	static char text[256];
	size_t i = current_row();

	snprintf(text, sizeof(text), "%s at row %zu, %s", what, i + 1,
		 i < ARRAY_SIZE(checks) ? checks[i].row : "which is none that answers");
	report(text);
}

static void serve_mmio(struct kvm_run *run)
{
	uint64_t tag = TAG_MMIO | (run->mmio.phys_addr >> 12 & 0xffffff);
	uint64_t word = tag << 8 | 0xb8;
	size_t i = current_row();

	if (i < ARRAY_SIZE(checks))
		mmio[i] = run->mmio.phys_addr & ~0xfffull;
	if (!run->mmio.is_write)
		memcpy(run->mmio.data, &word, sizeof(word));
}

//#if STATE
/* All of a vCPU that a row can change. */
struct state {
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
//#if NESTED
	uint64_t msr;
	struct kvm_nested_state *nested;
//#end
};

static void get_state(struct kvm_vcpu *from, struct state *state)
{
//#if NESTED
	size_t size = kvm_check_cap(KVM_CAP_NESTED_STATE);

//#end
	vcpu_sregs_get(from, &state->sregs);
	vcpu_regs_get(from, &state->regs);
	if (kvm_has_cap(KVM_CAP_XCRS))
		vcpu_xcrs_get(from, &state->xcrs);
	vcpu_debugregs_get(from, &state->debugregs);
//#if NESTED
	state->msr = vcpu_get_msr(from, NESTED_MSR);
	state->nested = calloc(1, size);
	TEST_ASSERT(state->nested, "No memory for nested state");
	state->nested->size = size;
	vcpu_nested_state_get(from, state->nested);
//#end
	vcpu_events_get(from, &state->events);
}

static void put_state(struct kvm_vcpu *to, struct state *state)
{
//#if NESTED
	vcpu_set_msr(to, NESTED_MSR, state->msr);
//#end
	vcpu_sregs_set(to, &state->sregs);
	vcpu_regs_set(to, &state->regs);
	if (kvm_has_cap(KVM_CAP_XCRS))
		vcpu_xcrs_set(to, &state->xcrs);
	vcpu_debugregs_set(to, &state->debugregs);
//#if NESTED
	vcpu_nested_state_set(to, state->nested);
	free(state->nested);
//#end
	state->events.flags = 0;
	vcpu_events_set(to, &state->events);
}

//#end
//#if MIGRATE
/* Into a new VM over the same memory. */
static void migrate(void)
{
	struct kvm_vm *old = vm;
	struct state state;	/* once KVM has ended the OUT that led here */
//#if SECOND
	struct state second;
	uint32_t id = vcpu->id;
//#end

	vcpu_run_complete_io(vcpu);
	get_state(vcpu, &state);
//#if SECOND
	vcpu_run_complete_io(other);
	get_state(other, &second);
//#end
	new_vm();
//#if SECOND
	vcpu = new_vcpu(id);
	put_state(vcpu, &state);
	other = new_vcpu(!id);
	put_state(other, &second);
//#else
	vcpu = new_vcpu(0);
	put_state(vcpu, &state);
//#end
	kvm_vm_free(old);
}

//#end
//#if DIRTY
static uint64_t dirty_pages[DATA_BYTES / 0x1000 / 64];

static void get_dirty_log(char *text)
{
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = dirty_pages };
	size_t used = 0;
	int i;

	vm_ioctl(vm, KVM_GET_DIRTY_LOG, &log);
	snprintf(text, SEEN_BYTES, "-");
	for (i = 0; i < DATA_BYTES / 0x1000 && used < SEEN_BYTES - 16; i++) {
		if (dirty_pages[i / 64] >> i % 64 & 1)
			used += sprintf(text + used, "%sd%d", used ? " " : "", i);
	}
}

//#end
//#if HOST
//#if SLOT
static void delete_slot(void)
{
	if (!deleted)
		set_slot(1, 0, DATA_GPA, 0, NULL);
	deleted = true;
//#if FLAGS
	flags = 0;
//#end
}

static void add_slot(void)
{
	if (!deleted)
		return;
	deleted = false;
	set_data_slot();
}

//#end
static void host_step(void)
{
	const char *row;

	while (next_step < ARRAY_SIZE(checks) && checks[next_step].kind < HOST)
		next_step++;
	if (next_step == ARRAY_SIZE(checks))
		give_up("The guest asks the host for more than there is to do");
	row = checks[next_step].row;
	snprintf(seen[next_step], SEEN_BYTES, "done");

//#if SLOT
	if (!strcmp(row, "host slot delete"))
		delete_slot();
	if (!strcmp(row, "host slot add"))
		add_slot();
//#end
//#if MOVE
	if (!strcmp(row, "host slot move")) {
		char *from = data;

		delete_slot();
		data = spare;
		spare = from;
		add_slot();
	}
//#end
//#if READONLY
	/* KVM refuses to change that flag: the slot is made anew. */
	if (!strcmp(row, "host slot readonly") || !strcmp(row, "host slot writable")) {
		delete_slot();
		flags = strcmp(row, "host slot readonly") ? 0 : KVM_MEM_READONLY;
		add_slot();
	}
//#end
//#if LOG
	if (!strcmp(row, "host dirty start")) {
		flags |= KVM_MEM_LOG_DIRTY_PAGES;
		set_data_slot();
	}
	if (!strcmp(row, "host dirty stop")) {
		flags &= ~KVM_MEM_LOG_DIRTY_PAGES;
		set_data_slot();
	}
//#end
//#if DIRTY
	if (!strcmp(row, "host dirty get"))
		get_dirty_log(seen[next_step]);
//#end
//#if MANUAL
	if (!strcmp(row, "host dirty manual") || !strcmp(row, "host dirty automatic"))
		vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			      !strcmp(row, "host dirty manual"));
	if (!strcmp(row, "host dirty clear")) {
		struct kvm_clear_dirty_log log = {
			.slot = 1,
			.num_pages = DATA_BYTES / 0x1000,
			.dirty_bitmap = dirty_pages,
		};

		vm_ioctl(vm, KVM_CLEAR_DIRTY_LOG, &log);
	}
//#end
//#if SREGS
	if (!strcmp(row, "host sregs")) {
		struct kvm_sregs sregs;

		vcpu_run_complete_io(vcpu);
		vcpu_sregs_get(vcpu, &sregs);
		vcpu_sregs_set(vcpu, &sregs);
	}
//#end
//#if RESTORE
	if (!strcmp(row, "host nested")) {
		struct state state;

		vcpu_run_complete_io(vcpu);
		get_state(vcpu, &state);
		put_state(vcpu, &state);
	}
//#end
//#if MIGRATE
	if (!strcmp(row, "host migrate"))
		migrate();
//#end
	next_step++;
}

//#end
static void run_to_end(void)
{
	char text[128];

	for (;;) {
		int failed = __vcpu_run(vcpu);
		struct kvm_run *run = vcpu->run;

		if (failed) {
			snprintf(text, sizeof(text), "%s",
				 errno == EINTR ? "The guest hangs" : strerror(errno));
			give_up(text);
		}
		if (run->exit_reason == KVM_EXIT_MMIO) {
			serve_mmio(run);
			continue;
		}
		if (run->exit_reason != KVM_EXIT_IO || run->io.port != DOORBELL) {
			snprintf(text, sizeof(text), "Exit to userspace: %s",
				 exit_reason_str(run->exit_reason));
			give_up(text);
		}
		switch (*(uint32_t *)((char *)run + run->io.data_offset)) {
		case RUNG_END:
			return;
//#if SECOND
		case RUNG_SWITCH: {
			struct kvm_vcpu *next = other;

			other = vcpu;
			vcpu = next;
			break;
		}
//#end
//#if INTERRUPT
		case RUNG_INTERRUPT: {
			struct kvm_interrupt interrupt = { .irq = 31 };

			vcpu_ioctl(vcpu, KVM_INTERRUPT, &interrupt);
			break;
		}
//#end
//#if HOST
		case RUNG_HOST:
			host_step();
			break;
//#end
		default:
			give_up("The guest gives up");
		}
	}
}

static void on_alarm(int signal)
{
}

static void *map(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	TEST_ASSERT(at != MAP_FAILED, "mmap() of 0x%zx bytes failed", size);
	return at;
}

//#if MSRS
static bool msr_has(uint32_t msr, uint64_t bits)
{
	return (vcpu_get_msr(vcpu, msr) & bits) == bits;
}

//#end
int main(int argc, char *argv[])
{
	struct sigaction action = { .sa_handler = on_alarm };	/* KVM_RUN is not restarted */
//#if SECOND
	struct kvm_regs regs;
//#end

//@CPUID
	code = map(DATA_GPA);
	data = map(DATA_BYTES);
//#if MOVE
	spare = map(DATA_BYTES);
//#end
	new_vm();
	vcpu = new_vcpu(0);
//@MSRS
	fill_memory();
//#if MOVE
	fill_spare();
//#end
//#if SECOND
	other = new_vcpu(1);
	vcpu_regs_get(other, &regs);
	regs.rbx = SECOND_ROWS;
	regs.rip = SECOND_BEGIN;
	vcpu_regs_set(other, &regs);
//#end

	sigaction(SIGALRM, &action, NULL);
	alarm(TIMEOUT_S);
	run_to_end();
	report("");
	kvm_vm_free(vm);
	return 0;
}
