//! Pages as rows.

use std::borrow::Cow;

use async_graphql::OutputType;
use async_graphql::connection::PageInfo;
use async_graphql::parser::types::SelectionSet;

use super::super::paging::{Edge, Page};
use super::{Plan, Row, Write, leaf, nested};

impl<N: Row + OutputType> Row for Page<N> {
    fn type_name() -> Cow<'static, str> {
        <Self as OutputType>::type_name()
    }

    fn writer(name: &str, below: &SelectionSet) -> Option<Write<Self>> {
        match name {
            "nodes" => {
                let plan = Plan::<N>::of(below)?;
                Some(Box::new(move |page, out| plan.write_list(page.edges.iter().map(|edge| &edge.node), out)))
            }
            "edges" => {
                let plan = Plan::<Edge<N>>::of(below)?;
                Some(Box::new(move |page, out| plan.write_list(page.edges.iter(), out)))
            }
            "pageInfo" => {
                let plan = Plan::<PageInfo>::of(below)?;
                Some(Box::new(move |page, out| plan.write(&page.info(), out)))
            }
            _ => None,
        }
    }
}

impl<N: Row + OutputType> Row for Edge<N> {
    fn type_name() -> Cow<'static, str> {
        <Self as OutputType>::type_name()
    }

    fn writer(name: &str, below: &SelectionSet) -> Option<Write<Self>> {
        match name {
            "cursor" => leaf(|edge: &Self, out| out.value(&edge.cursor.to_string())),
            "node" => nested(below, |edge: &Self| Some(Some(&edge.node))),
            _ => None,
        }
    }
}

impl Row for PageInfo {
    fn type_name() -> Cow<'static, str> {
        <Self as OutputType>::type_name()
    }

    fn writer(name: &str, _: &SelectionSet) -> Option<Write<Self>> {
        match name {
            "hasPreviousPage" => leaf(|info: &Self, out| out.value(&info.has_previous_page)),
            "hasNextPage" => leaf(|info: &Self, out| out.value(&info.has_next_page)),
            "startCursor" => leaf(|info: &Self, out| out.value(&info.start_cursor)),
            "endCursor" => leaf(|info: &Self, out| out.value(&info.end_cursor)),
            _ => None,
        }
    }
}
