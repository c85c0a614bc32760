//! One declaration for each option: the field, its configuration key, default, range, documentation and flag.
//!
//! `options!` generates from a section's declarations
//!
//! - the options themselves, a struct with a public field for each and the declared defaults,
//! - a layer, the same fields as `Option`s, filled from a file, `--set`, flags or a host
//!   ([`config::Layers`](crate::config::Layers)); with the feature `cli` its fields are the flags,
//! - [`Section`]: the table of keys, and the check of the declared ranges.

use std::fmt::Display;

use crate::error::{Error, Result};

/// A configuration key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its section.
    pub section: &'static str,
    /// Its name within the section.
    pub name: &'static str,
    /// Its documentation, one string for each line.
    pub doc: &'static [&'static str],
    /// Minimum and maximum, for bounded numbers.
    pub range: Option<(f64, f64)>,
}

impl Key {
    /// `section.name`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }
}

/// A section of the configuration.
pub trait Section {
    /// Its keys, in the order of their declarations.
    const KEYS: &'static [Key];

    /// Checks the declared ranges.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option), naming the key, its value and the range.
    fn check_ranges(&self) -> Result<()>;
}

/// A number with a declared range.
pub(crate) trait Number: Copy + Display {
    fn number(self) -> f64;
}

macro_rules! numbers {
    ($($number:ty),+) => { $(impl Number for $number {
        #[allow(clippy::unnecessary_cast)] // f64 is among them
        fn number(self) -> f64 { self as f64 }
    })+ };
}

numbers!(u8, u64, usize, i64, f64);

/// Refuses `value` outside of `low` to `high`, NaN included.
pub(crate) fn in_range(key: &str, value: impl Number, (low, high): (f64, f64)) -> Result<()> {
    if (low..=high).contains(&value.number()) {
        return Ok(());
    }
    Err(Error::option(format!(
        "{key} is {value}, expected {low} to {high}"
    )))
}

/// Deserialises a key that may be `null`, distinct from an absent key.
pub(crate) fn nullable<'de, T, D>(
    deserializer: D,
) -> std::result::Result<Option<Option<T>>, D::Error>
where
    T: serde::Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    serde::Deserialize::deserialize(deserializer).map(Some)
}

/// Declares a section; see the [module](self). Fields with a default come first; after `optional:` those that may be
/// unset, `Option`s with the default `None` or, after `=`, another. The parentheses hold the `clap` attributes of a field, `(skip)` if it has
/// no flag.
macro_rules! options {
    (
        $(#[doc = $about:literal])+
        struct $name:ident, layer $layer:ident, section $section:literal;
        $($(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr, $([$low:expr, $high:expr],)? ($($arg:tt)+);)*
        optional:
        $($(#[doc = $odoc:literal])+ $ofield:ident: $otype:ty $(= $odefault:expr)?, $([$olow:expr, $ohigh:expr],)? ($($oarg:tt)+);)*
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, serde::Serialize)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)*
            $($(#[doc = $odoc])+ pub $ofield: Option<$otype>,)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name {
                    $($field: $default,)*
                    $($ofield: crate::declare::options!(@default $($odefault)?),)*
                }
            }
        }

        #[doc = concat!("A layer of [`", stringify!($name), "`]: the values that one source gives.")]
        #[derive(Debug, Clone, PartialEq, Default, serde::Deserialize)]
        #[serde(default)]
        #[cfg_attr(feature = "cli", derive(clap::Args))]
        pub struct $layer {
            $(
                $(#[doc = $doc])+
                #[cfg_attr(feature = "cli", arg($($arg)+))]
                pub $field: Option<$type>,
            )*
            $(
                $(#[doc = $odoc])+
                #[serde(deserialize_with = "crate::declare::nullable")]
                #[cfg_attr(feature = "cli", arg($($oarg)+))]
                pub $ofield: Option<Option<$otype>>,
            )*
        }

        impl $layer {
            /// Overrides `options` with the given values.
            pub fn apply(self, options: &mut $name) {
                $(if let Some(value) = self.$field { options.$field = value; })*
                $(if let Some(value) = self.$ofield { options.$ofield = value; })*
            }
        }

        impl crate::declare::Section for $name {
            const KEYS: &'static [crate::declare::Key] = &[
                $(crate::declare::options!(@key $section, $field, [$($doc),+], $([$low, $high])?),)*
                $(crate::declare::options!(@key $section, $ofield, [$($odoc),+], $([$olow, $ohigh])?),)*
            ];

            fn check_ranges(&self) -> crate::error::Result<()> {
                $($(
                    let key = concat!($section, ".", stringify!($field));
                    crate::declare::in_range(key, self.$field, ($low, $high))?;
                )?)*
                $($(if let Some(value) = self.$ofield {
                    let key = concat!($section, ".", stringify!($ofield));
                    crate::declare::in_range(key, value, ($olow, $ohigh))?;
                })?)*
                Ok(())
            }
        }
    };
    (@key $section:literal, $field:ident, $doc:expr, $([$low:expr, $high:expr])?) => {
        crate::declare::Key {
            section: $section,
            name: stringify!($field),
            doc: &$doc,
            range: crate::declare::options!(@range $([$low, $high])?),
        }
    };
    (@default $default:expr) => { Some($default) };
    (@default) => { None };
    (@range [$low:expr, $high:expr]) => { Some(($low, $high)) };
    (@range) => { None };
}

pub(crate) use options;
