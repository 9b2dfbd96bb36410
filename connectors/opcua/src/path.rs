//! The way into an array or structure: a JSON pointer (RFC 6901) over the server's own type information. Pure.

use opcua::types::custom::{DataTypeTree, DynamicStructure};
use opcua::types::{Array, ExpandedMessageInfo, StructureType, Variant};

/// What `pointer` leads to inside `value`: array indexes count from 0, one token a dimension; structure fields go by name.
/// `None` when there is no such place. `types` are the types the structures were decoded with.
pub(crate) fn at<'a>(value: &'a Variant, pointer: &str, types: Option<&DataTypeTree>) -> Option<&'a Variant> {
    let tokens: Vec<_> = pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
    let mut value = value;
    let mut rest = tokens.as_slice();
    while let [token, behind @ ..] = rest {
        (value, rest) = match value {
            Variant::Variant(inner) => (&**inner, rest),
            Variant::Array(array) => element(array, rest)?,
            Variant::ExtensionObject(object) => (field(object.inner_as()?, token, types?)?, behind),
            _ => return None,
        };
    }
    Some(value)
}

/// One element, and the tokens behind its indexes. Values lie with the last dimension next to each other
/// (OPC UA Part 6 §5.2.2.16).
fn element<'a, 't>(array: &'a Array, tokens: &'t [String]) -> Option<(&'a Variant, &'t [String])> {
    let flat = [u32::try_from(array.values.len()).ok()?];
    let dimensions = array.dimensions.as_deref().filter(|dimensions| dimensions.len() > 1).unwrap_or(&flat);
    let (indexes, behind) = tokens.split_at_checked(dimensions.len())?;
    let mut place = 0_usize;
    for (index, length) in indexes.iter().zip(dimensions) {
        let (index, length) = (index.parse::<usize>().ok()?, usize::try_from(*length).ok()?);
        if index >= length {
            return None;
        }
        place = place.checked_mul(length)?.checked_add(index)?;
    }
    Some((array.values.get(place)?, behind))
}

/// A field by name. The library keeps only the present field of a union and would give it out under any field's name
/// whose place fits, so unions are not entered.
fn field<'a>(structure: &'a DynamicStructure, name: &str, types: &DataTypeTree) -> Option<&'a Variant> {
    let info = types.get_struct_type(&structure.full_data_type_id().node_id)?;
    match info.structure_type {
        StructureType::Structure | StructureType::StructureWithOptionalFields => structure.get_field_by_name(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opcua::types::VariantScalarTypeId;
    use proptest::prelude::*;

    fn array(dimensions: Option<Vec<u32>>) -> Variant {
        let values: Vec<_> = (0..6).map(Variant::Int32).collect();
        Variant::Array(Box::new(Array { value_type: VariantScalarTypeId::Int32, values, dimensions }))
    }

    #[test]
    fn elements_of_arrays_in_one_and_more_dimensions() {
        let flat = array(None);
        assert_eq!(at(&flat, "/4", None), Some(&Variant::Int32(4)));
        for pointer in ["/6", "/-1", "/x", "/", "/0/0", "/0/x"] {
            assert_eq!(at(&flat, pointer, None), None, "{pointer}");
        }
        let table = array(Some(vec![2, 3]));
        assert_eq!(at(&table, "/1/0", None), Some(&Variant::Int32(3)));
        assert_eq!(at(&table, "/1/2", None), Some(&Variant::Int32(5)));
        for pointer in ["/1", "/2/0", "/0/3", "/0/0/0"] {
            assert_eq!(at(&table, pointer, None), None, "{pointer}");
        }
        assert_eq!(at(&Variant::Int32(1), "/0", None), None);
    }

    proptest! {
        /// Whatever the server's dimensions and the mapping's pointer: no panic, and only elements that are there.
        #[test]
        fn any_dimensions_and_pointer(dimensions: Option<Vec<u32>>, pointer in "(/[0-9]{1,3}){0,4}") {
            let value = array(dimensions);
            if let Some(Variant::Int32(found)) = at(&value, &pointer, None) {
                prop_assert!((0..6).contains(found));
            }
        }
    }
}
