/* Preloaded by tests on processors that are not Intel's: OpenVINO's plugin offers its CPU device on no other, though
 * OpenVINO runs on them. When the plugin is opened, ONNX Runtime's table of functions is changed so that every device is
 * Intel's. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct api_base {
    void **(*get_api)(uint32_t version);
    const char *(*get_version)(void);
};

/* The place of HardwareDevice_VendorId in OrtApi. Functions are only ever appended. */
enum { VENDOR_ID = 308, API_VERSION = 22 };

static uint32_t intel(const void *device) {
    (void)device;
    return 0x8086;
}

static int change_table(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    (void)data;
    if (!info->dlpi_name || !strstr(info->dlpi_name, "libonnxruntime.so")) return 0;
    void *library = dlopen(info->dlpi_name, RTLD_LAZY | RTLD_NOLOAD);
    if (!library) return 0;
    struct api_base *(*get_base)(void) = (struct api_base * (*)(void)) dlsym(library, "OrtGetApiBase");
    void **api = get_base ? get_base()->get_api(API_VERSION) : NULL;
    if (!api) return 0;
    long page = sysconf(_SC_PAGESIZE);
    uintptr_t start = (uintptr_t)&api[VENDOR_ID] & ~(uintptr_t)(page - 1);
    if (mprotect((void *)start, page, PROT_READ | PROT_WRITE) != 0) return 0;
    api[VENDOR_ID] = (void *)intel;
    return 1;
}

void *dlopen(const char *name, int flags) {
    void *(*real)(const char *, int) = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
    if (name && strstr(name, "openvino_plugin")) dl_iterate_phdr(change_table, NULL);
    return real(name, flags);
}
