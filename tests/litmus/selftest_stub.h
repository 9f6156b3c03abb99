/* As much of the selftests' library as an exported test names, so that what it says of raw answers can be tried alone. */
#pragma once
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/kvm.h>

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define BIT(n) (1UL << (n))
#define TEST_ASSERT(condition, ...) ((condition) ? (void)0 : test_failed(__VA_ARGS__))
#define TEST_FAIL(...) test_failed(__VA_ARGS__)
#define TEST_REQUIRE(condition) ((void)(condition))
#define __TEST_REQUIRE(condition, ...) ((void)(condition))
#define KVM_X86_CPU_FEATURE(function, index, reg, bit) ((function) + (bit))
#define MSR_IA32_FEAT_CTL 0x3a
#define MSR_IA32_VMX_BASIC 0x480
#define MSR_IA32_VMX_TRUE_PINBASED_CTLS 0x48d
#define MSR_IA32_VMX_TRUE_PROCBASED_CTLS 0x48e
#define MSR_IA32_VMX_TRUE_EXIT_CTLS 0x48f
#define MSR_IA32_VMX_TRUE_ENTRY_CTLS 0x490
#define MSR_IA32_VMX_PROCBASED_CTLS2 0x48b
#define MSR_VM_HSAVE_PA 0xc0010117
#define FEAT_CTL_LOCKED 1
#define FEAT_CTL_VMX_ENABLED_OUTSIDE_SMX 4

struct kvm_vm { int fd; };
struct kvm_vcpu { uint32_t id; struct kvm_run *run; };

void test_failed(const char *format, ...);
struct kvm_vm *vm_create_barebones(void);
void kvm_vm_free(struct kvm_vm *vm);
int vm_ioctl(struct kvm_vm *vm, unsigned long number, void *argument);
struct kvm_vcpu *__vm_vcpu_add(struct kvm_vm *vm, uint32_t id);
const struct kvm_cpuid2 *kvm_get_supported_cpuid(void);
void vcpu_init_cpuid(struct kvm_vcpu *vcpu, const struct kvm_cpuid2 *cpuid);
int __vcpu_run(struct kvm_vcpu *vcpu);
void vcpu_run_complete_io(struct kvm_vcpu *vcpu);
uint64_t vcpu_get_msr(struct kvm_vcpu *vcpu, uint64_t msr);
void vcpu_set_msr(struct kvm_vcpu *vcpu, uint64_t msr, uint64_t value);
void vcpu_regs_get(struct kvm_vcpu *vcpu, struct kvm_regs *regs);
void vcpu_regs_set(struct kvm_vcpu *vcpu, struct kvm_regs *regs);
void vcpu_sregs_get(struct kvm_vcpu *vcpu, struct kvm_sregs *sregs);
void vcpu_sregs_set(struct kvm_vcpu *vcpu, struct kvm_sregs *sregs);
void vcpu_xcrs_get(struct kvm_vcpu *vcpu, struct kvm_xcrs *xcrs);
void vcpu_xcrs_set(struct kvm_vcpu *vcpu, struct kvm_xcrs *xcrs);
void vcpu_debugregs_get(struct kvm_vcpu *vcpu, struct kvm_debugregs *debugregs);
void vcpu_debugregs_set(struct kvm_vcpu *vcpu, struct kvm_debugregs *debugregs);
void vcpu_events_get(struct kvm_vcpu *vcpu, struct kvm_vcpu_events *events);
void vcpu_events_set(struct kvm_vcpu *vcpu, struct kvm_vcpu_events *events);
void vcpu_nested_state_get(struct kvm_vcpu *vcpu, struct kvm_nested_state *state);
void vcpu_nested_state_set(struct kvm_vcpu *vcpu, struct kvm_nested_state *state);
bool kvm_cpu_has(uint64_t feature);
bool kvm_has_cap(long cap);
unsigned int kvm_check_cap(long cap);
const char *exit_reason_str(unsigned int reason);
