//! Graph contracts: the names of inputs and outputs for each kind of graph.

/// The kind of a bundle's graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GraphKind {
    /// Restoration module (stage 1): `image` `[N, 3, H, W]` in `[0, 1]` to `clean` `[N, 3, sH, sW]`.
    Cleaner,
    /// `image` `[N, 3, H, W]` in `[-1, 1]` to `latent` `[N, 4, H/8, W/8]`: the mode of the posterior, scaled.
    VaeEncoder,
    /// `latent` `[N, 4, h, w]`, scaled, to `image` `[N, 3, 8h, 8w]`, nominally in `[-1, 1]`.
    VaeDecoder,
    /// Decoder backward pass (vector-Jacobian product): `latent` and a `cotangent` `[N, 3, 8h, 8w]` to `image` and
    /// `gradient` `[N, 4, h, w]`.
    VaeDecoderVjp,
    /// `token_ids` `[N, 77]` to `context` `[N, 77, C]`, the prompt embedding.
    TextEncoder,
    /// ControlNet and UNet in one: `x`, `timestep`, `context`, `hint`, `strength` to `output` (eps or v).
    Denoiser,
    /// The ControlNet alone (DiffBIR: IRControlNet): `x`, `timestep`, `context`, `hint`, `strength` to `control_0` …
    /// `control_12`.
    Control,
    /// The UNet alone: `x`, `timestep`, `context`, `control_0` … `control_12` to `output`.
    Unet,
}

/// Number of residuals that the ControlNet adds to the UNet (12 skip connections and the middle block).
pub const CONTROLS: usize = 13;

impl GraphKind {
    /// Names of the inputs that a graph of this kind must have.
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

    /// Names of the outputs that a graph of this kind must have.
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

/// Names of the ControlNet's residuals.
pub(crate) fn controls() -> Vec<String> {
    (0..CONTROLS).map(|i| format!("control_{i}")).collect()
}
