//! Prints where the parts of expressions are in files, for `tests/mutants.py`, which puts switches between them.
//!
//! Each line is: what it is, the file, and positions as `line:column`, both counted from one; `-` if there is none.
//!
//! - `binary FILE OPERATOR LEFT_BEGIN LEFT_END RIGHT_BEGIN RIGHT_END`
//! - `unary FILE OPERATOR OPERAND_BEGIN OPERAND_END`
//! - `arm FILE BEGIN PATTERN_END GUARD_BEGIN GUARD_END`
//! - `field FILE BEGIN NAME VALUE_BEGIN VALUE_END REST_BEGIN REST_END`

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use proc_macro2::{LineColumn, Span};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

fn main() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for file in env::args().skip(1) {
        let text = fs::read_to_string(Path::new(&file)).map_err(|error| error.to_string());
        match text.and_then(|text| syn::parse_file(&text).map_err(|error| error.to_string())) {
            Ok(parsed) => Printer { file: &file }.visit_file(&parsed),
            Err(error) => {
                eprintln!("{file}: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

struct Printer<'a> {
    file: &'a str,
}

fn at(position: LineColumn) -> String {
    format!("{}:{}", position.line, position.column + 1)
}

/// Where something begins and ends.
fn range(span: Option<Span>) -> String {
    span.map_or_else(|| String::from("- -"), |span| format!("{} {}", at(span.start()), at(span.end())))
}

impl<'ast> Visit<'ast> for Printer<'_> {
    fn visit_expr_binary(&mut self, expr: &'ast syn::ExprBinary) {
        let operator = at(expr.op.span().start());
        let (left, right) = (range(Some(expr.left.span())), range(Some(expr.right.span())));
        println!("binary {} {operator} {left} {right}", self.file);
        visit::visit_expr_binary(self, expr);
    }

    fn visit_expr_unary(&mut self, expr: &'ast syn::ExprUnary) {
        println!("unary {} {} {}", self.file, at(expr.op.span().start()), range(Some(expr.expr.span())));
        visit::visit_expr_unary(self, expr);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        let pattern = arm.pat.span();
        let guard = range(arm.guard.as_ref().map(|(_, guard)| guard.span()));
        println!("arm {} {} {} {guard}", self.file, at(arm.span().start()), at(pattern.end()));
        visit::visit_arm(self, arm);
    }

    fn visit_expr_struct(&mut self, expr: &'ast syn::ExprStruct) {
        for field in &expr.fields {
            let syn::Member::Named(name) = &field.member else { continue };
            let value = range(field.colon_token.map(|_| field.expr.span()));
            let rest = range(expr.rest.as_ref().map(Spanned::span));
            println!("field {} {} {name} {value} {rest}", self.file, at(name.span().start()));
        }
        visit::visit_expr_struct(self, expr);
    }
}
