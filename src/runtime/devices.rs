//! Names of the devices that ONNX Runtime offers.

use std::ffi::{CStr, CString};

use ort::AsPointer;
use ort::device::Device;
use ort::memory::DeviceType;

/// OpenVINO's name of a device, else its kind.
pub(super) fn name_of(device: &Device<'_>) -> String {
    metadata(device, "ov_device").unwrap_or_else(|| kind_of(device).to_owned())
}

/// `CPU`, `GPU` or `NPU`.
pub(super) fn kind_of(device: &Device<'_>) -> &'static str {
    match device.hardware_device().ty() {
        DeviceType::CPU => "CPU",
        DeviceType::GPU => "GPU",
        DeviceType::FPGA => "FPGA",
        DeviceType::NPU => "NPU",
    }
}

/// The provider's metadata entry `key` of a device.
fn metadata(device: &Device<'_>, key: &str) -> Option<String> {
    let key = CString::new(key).ok()?;
    let api = ort::api();
    // SAFETY: the device comes from the environment, which lives as long as the process.
    let pairs = unsafe { (api.EpDevice_EpMetadata)(device.ptr()) };
    if pairs.is_null() {
        return None;
    }
    // SAFETY: the pairs belong to the device, and the key is a C string.
    let value = unsafe { (api.GetKeyValue)(pairs, key.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: a value that is not NULL is a C string that lives as long as the device.
    let value = unsafe { CStr::from_ptr(value) };
    Some(value.to_string_lossy().into_owned())
}
