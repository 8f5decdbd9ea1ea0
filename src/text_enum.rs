//! Enumerations that the database, the API and the wire spell as text: one declaration gives the spelling to
//! Diesel, serde, `Display` and `FromStr`.

/// The text is none of an enumeration's values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a known value")]
pub struct UnknownText(pub String);

/// Declares enumerations with a text for each variant.
///
/// ```ignore
/// text_enum! {
///     /// How a command was confirmed.
///     pub enum ConfirmedBy {
///         /// The device acknowledged it.
///         Ack = "ACK",
///         /// A reading showed its effect.
///         Effect = "EFFECT",
///     }
/// }
/// ```
#[macro_export]
macro_rules! text_enum {
    ($($(#[$meta:meta])* $vis:vis enum $name:ident {
        $($(#[$variant_meta:meta])* $variant:ident = $text:literal),* $(,)?
    })*) => { $(
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash,
            diesel::expression::AsExpression, diesel::deserialize::FromSqlRow,
        )]
        #[diesel(sql_type = diesel::sql_types::Text)]
        $vis enum $name {
            $($(#[$variant_meta])* $variant,)*
        }

        impl $name {
            /// Every value, in the order of declaration.
            $vis const ALL: &[Self] = &[$(Self::$variant),*];

            /// The spelling in the database, the API and on the wire.
            $vis const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::text_enum::UnknownText;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err($crate::text_enum::UnknownText(text.to_owned())),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl diesel::serialize::ToSql<diesel::sql_types::Text, diesel::pg::Pg> for $name {
            fn to_sql<'b>(
                &'b self,
                out: &mut diesel::serialize::Output<'b, '_, diesel::pg::Pg>,
            ) -> diesel::serialize::Result {
                std::io::Write::write_all(out, self.as_str().as_bytes())?;
                Ok(diesel::serialize::IsNull::No)
            }
        }

        impl diesel::deserialize::FromSql<diesel::sql_types::Text, diesel::pg::Pg> for $name {
            fn from_sql(value: diesel::pg::PgValue<'_>) -> diesel::deserialize::Result<Self> {
                Ok(std::str::from_utf8(value.as_bytes())?.parse()?)
            }
        }
    )* };
}

pub use text_enum;

#[cfg(test)]
mod tests {
    text_enum! {
        /// For the tests.
        #[derive(PartialOrd, Ord)]
        enum Colour {
            Red = "RED",
            DarkBlue = "DARK_BLUE",
        }
    }

    #[test]
    fn every_value_prints_and_parses() {
        for colour in Colour::ALL {
            assert_eq!(colour.as_str().parse(), Ok(*colour));
            assert_eq!(serde_json::to_string(colour).unwrap(), format!("\"{colour}\""));
        }
        assert_eq!(serde_json::from_str::<Colour>("\"DARK_BLUE\"").unwrap(), Colour::DarkBlue);
        assert!("red".parse::<Colour>().is_err());
        assert!(Colour::Red < Colour::DarkBlue);
    }
}
