//! The names of every graph's inputs and outputs, by its kind.

/// What a graph of a bundle computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GraphKind {
    /// Stage 1: `image` `[N, 3, H, W]` in `[0, 1]` to `clean` `[N, 3, sH, sW]`.
    Cleaner,
    /// `image` `[N, 3, H, W]` in `[-1, 1]` to `latent` `[N, 4, H/8, W/8]`: the posterior's mode, scaled.
    VaeEncoder,
    /// `latent` `[N, 4, h, w]`, scaled, to `image` `[N, 3, 8h, 8w]`, nominally in `[-1, 1]`.
    VaeDecoder,
    /// `latent` and a `cotangent` `[N, 3, 8h, 8w]` to `image` and `gradient` `[N, 4, h, w]`: the decoder's transposed
    /// Jacobian times the cotangent.
    VaeDecoderVjp,
    /// `token_ids` `[N, 77]` to `context` `[N, 77, C]`.
    TextEncoder,
    /// Control module and UNet in one: `x`, `timestep`, `context`, `hint`, `strength` to `output` (eps or v).
    Denoiser,
    /// The control module alone: `x`, `timestep`, `context`, `hint`, `strength` to `control_0` … `control_12`.
    Control,
    /// The UNet alone: `x`, `timestep`, `context`, `control_0` … `control_12` to `output`.
    Unet,
}

/// How many residuals the control module adds to the UNet (12 skip connections and the middle block).
pub const CONTROLS: usize = 13;

impl GraphKind {
    /// The names of the inputs a graph of this kind must have.
    pub fn inputs(self) -> Vec<String> {
        match self {
            GraphKind::Cleaner | GraphKind::VaeEncoder => names(&["image"]),
            GraphKind::VaeDecoder => names(&["latent"]),
            GraphKind::VaeDecoderVjp => names(&["latent", "cotangent"]),
            GraphKind::TextEncoder => names(&["token_ids"]),
            GraphKind::Denoiser | GraphKind::Control => {
                names(&["x", "timestep", "context", "hint", "strength"])
            }
            GraphKind::Unet => [names(&["x", "timestep", "context"]), controls()].concat(),
        }
    }

    /// The names of the outputs a graph of this kind must have.
    pub fn outputs(self) -> Vec<String> {
        match self {
            GraphKind::Cleaner => names(&["clean"]),
            GraphKind::VaeEncoder => names(&["latent"]),
            GraphKind::VaeDecoder => names(&["image"]),
            GraphKind::VaeDecoderVjp => names(&["image", "gradient"]),
            GraphKind::TextEncoder => names(&["context"]),
            GraphKind::Denoiser | GraphKind::Unet => names(&["output"]),
            GraphKind::Control => controls(),
        }
    }
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| name.to_string()).collect()
}

/// The names of the control module's residuals.
pub(crate) fn controls() -> Vec<String> {
    (0..CONTROLS).map(|i| format!("control_{i}")).collect()
}
