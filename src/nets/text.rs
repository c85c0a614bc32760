//! The text encoder.

use ndarray::{Array2, Axis, Ix2};

use crate::error::{Error, Result};
use crate::nets::cldm::Context;
use crate::nets::{Input, Network};
use crate::tensor::expect_finite;
use crate::text::{CONTEXT_TOKENS, Tokens};

/// The embedding of a tokenised prompt: `[77, C]`.
///
/// # Errors
/// Errors of the network, or a graph that violates its contract.
pub fn encode(net: &mut dyn Network, tokens: &Tokens) -> Result<Context> {
    let ids = Array2::from_shape_fn((1, CONTEXT_TOKENS), |(_, i)| tokens.ids[i]);
    let inputs = [("token_ids", Input::from(&ids))];
    let output = net.run(&inputs, &["context"])?.into_iter().next();
    let output = output.filter(|x| x.ndim() == 3 && x.shape()[..2] == [1, CONTEXT_TOKENS]);
    let context = output.map(|x| x.index_axis_move(Axis(0), 0));
    context
        .and_then(|x| x.into_dimensionality::<Ix2>().ok())
        .ok_or_else(|| Error::bundle("the text encoder returned no prompt embedding [1, 77, C]"))
        .and_then(|context| {
            expect_finite(|| "the prompt embedding", &context)?;
            Ok(context)
        })
}
