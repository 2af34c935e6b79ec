//! Reads places and imports out of the syntax tree.
//!
//! Evaluation tells no positions of fields, so the text is parsed once more, by the same parser, and
//! followed through what people write: records, dotted names, `&`, annotations, `let`, and imports
//! of further files. What a function builds has the place of its call.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Component, Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use nickel_lang_parser::{
    ErrorTolerantParser,
    ast::{Ast, AstAlloc, Import, InputFormat, Node, pattern::PatternData, primop::PrimOp, record::FieldPathElem},
    files::Files,
    grammar::TermParser,
    identifier::Ident,
    lexer::Lexer,
    position::TermPos,
};

use crate::{
    map::{Bytes, SourceFile, SourceMap, Spot},
    nickel::join,
};

/// Deeper than people write, shallow enough that a circle ends.
const MAX_DEPTH: usize = 64;

/// What parsing alone tells about a workspace.
pub(crate) struct Index {
    pub(crate) map: SourceMap,
    /// Files of the map that do not parse.
    pub(crate) unparsed: BTreeSet<usize>,
    /// Imported files, and files that would be imported if they existed: a cached evaluation is good
    /// while all of them are as they were.
    pub(crate) imports: BTreeSet<PathBuf>,
    /// False when something is imported that cannot be followed (a package).
    pub(crate) complete: bool,
}

/// Indexes `text`, the content of `main`, and what it imports; `library` is on the import path.
pub(crate) fn index(main: &Path, text: &str, library: &Path) -> Index {
    let mut walker = Walker {
        library,
        index: Index {
            map: SourceMap::default(),
            unparsed: BTreeSet::new(),
            imports: BTreeSet::new(),
            complete: true,
        },
    };
    walker.file(main, text.into(), "", 0);
    walker.index
}

/// Names bound by `let`, innermost first.
type Scope<'ast> = Option<Rc<Binding<'ast>>>;

struct Binding<'ast> {
    name: Ident,
    value: &'ast Ast<'ast>,
    scope: Scope<'ast>,
    outer: Scope<'ast>,
}

struct Walker<'a> {
    library: &'a Path,
    index: Index,
}

/// The file being walked.
#[derive(Clone, Copy)]
struct Here<'a> {
    id: usize,
    folder: &'a Path,
}

impl Walker<'_> {
    fn file(&mut self, path: &Path, text: Arc<str>, prefix: &str, depth: usize) {
        let id = self.register(path, &text);
        let alloc = AstAlloc::new();
        let file_id = Files::empty().add(path.as_os_str(), text.clone());
        let Ok((ast, errors)) = TermParser::new().parse_tolerant(&alloc, file_id, Lexer::new(&text)) else {
            self.index.unparsed.insert(id);
            return;
        };
        if !errors.no_errors() {
            self.index.unparsed.insert(id);
        }
        let here = Here {
            id,
            folder: path.parent().unwrap_or(Path::new("")),
        };
        if prefix.is_empty() {
            self.index.map.end = bytes_of(ast.pos, here).map(|bytes| Bytes {
                start: bytes.end.saturating_sub(1),
                ..bytes
            });
        }
        self.collect_imports(&ast, here);
        self.value(&ast, prefix, &None, here, depth);
    }

    fn register(&mut self, path: &Path, text: &Arc<str>) -> usize {
        let files = &mut self.index.map.files;
        if let Some(known) = files.iter().position(|file| file.path == path) {
            return known;
        }
        files.push(SourceFile {
            path: path.to_owned(),
            text: text.clone(),
        });
        files.len() - 1
    }

    /// Every import counts, also those below functions that have no place in the map.
    fn collect_imports(&mut self, ast: &Ast<'_>, here: Here<'_>) {
        use nickel_lang_parser::traverse::{TraverseAlloc, TraverseControl};
        let mut found = Vec::new();
        let _: Option<()> = ast.traverse_ref(
            &mut |node: &Ast<'_>, _: &()| {
                if let Node::Import(import) = &node.node {
                    found.push(match import {
                        Import::Path { path, format } => Some((PathBuf::from(path), *format)),
                        Import::Package { .. } => None,
                    });
                }
                TraverseControl::Continue
            },
            &(),
        );
        for import in found {
            match import {
                Some((path, format)) => {
                    self.import(&path, format, here);
                }
                None => self.index.complete = false,
            }
        }
    }

    /// Where an import leads, and whether that file is seen for the first time.
    fn import(&mut self, path: &Path, format: InputFormat, here: Here<'_>) -> Option<PathBuf> {
        let beside = normal(&here.folder.join(path));
        let fresh = self.index.imports.insert(beside.clone());
        if !beside.is_file() {
            // Found on the import path: the library itself, whose hash is part of every key.
            return None;
        }
        if fresh && format == InputFormat::Nickel && !beside.starts_with(self.library) {
            self.imports_of(&beside);
        }
        Some(beside)
    }

    /// Follows the imports of a file for the list of imports only.
    fn imports_of(&mut self, path: &Path) {
        let Ok(text) = fs::read_to_string(path) else {
            return;
        };
        let text: Arc<str> = text.into();
        let id = self.register(path, &text);
        let alloc = AstAlloc::new();
        let file_id = Files::empty().add(path.as_os_str(), text.clone());
        match TermParser::new().parse_tolerant(&alloc, file_id, Lexer::new(&text)) {
            Ok((ast, errors)) if errors.no_errors() => {
                let folder = path.parent().unwrap_or(Path::new(""));
                self.collect_imports(&ast, Here { id, folder });
            }
            _ => {
                self.index.unparsed.insert(id);
            }
        }
    }

    fn value<'ast>(&mut self, ast: &'ast Ast<'ast>, path: &str, scope: &Scope<'ast>, here: Here<'_>, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        let depth = depth + 1;
        match &ast.node {
            Node::Annotated { inner, .. } => self.value(inner, path, scope, here, depth),
            Node::Let { bindings, body, rec } => {
                let mut inner = scope.clone();
                for binding in *bindings {
                    if let PatternData::Any(name) = &binding.pattern.data {
                        inner = Some(Rc::new(Binding {
                            name: name.ident(),
                            value: &binding.value,
                            // A recursive binding's own scope is left out: following it might not end.
                            scope: if *rec { None } else { scope.clone() },
                            outer: inner,
                        }));
                    }
                }
                self.value(body, path, &inner, here, depth);
            }
            Node::Record(record) => {
                for field in record.field_defs {
                    self.field(field, path, scope, here, depth);
                }
            }
            Node::PrimOpApp {
                op: PrimOp::Merge(_),
                args,
            } => {
                for arg in *args {
                    self.value(arg, path, scope, here, depth);
                }
            }
            Node::Array(elements) => {
                for (position, element) in elements.iter().enumerate() {
                    let path = join(path, &position.to_string());
                    if let Some(bytes) = bytes_of(element.pos, here) {
                        self.insert(&path, bytes, element, bytes_of(element.pos, here));
                    }
                    self.value(element, &path, scope, here, depth);
                }
            }
            Node::Var(name) => {
                let mut binding = scope.as_ref();
                while let Some(found) = binding {
                    if found.name == name.ident() {
                        self.value(found.value, path, &found.scope, here, depth);
                        break;
                    }
                    binding = found.outer.as_ref();
                }
            }
            Node::Import(Import::Path {
                path: target,
                format: InputFormat::Nickel,
            }) => self.imported(target, path, here, depth),
            _ => {}
        }
    }

    fn field<'ast>(
        &mut self,
        field: &'ast nickel_lang_parser::ast::record::FieldDef<'ast>,
        path: &str,
        scope: &Scope<'ast>,
        here: Here<'_>,
        depth: usize,
    ) {
        let mut path = path.to_owned();
        for (position, element) in field.path.iter().enumerate() {
            let FieldPathElem::Ident(name) = element else {
                return;
            };
            path = join(&path, name.label());
            let Some(key) = bytes_of(name.pos, here) else {
                return;
            };
            match &field.value {
                Some(value) if position + 1 == field.path.len() => {
                    self.insert(&path, key, value, bytes_of(value.pos, here));
                }
                _ => {
                    self.index
                        .map
                        .spots
                        .entry(path.clone())
                        .or_insert(Spot { key, value: None });
                }
            }
        }
        if let Some(value) = &field.value {
            self.value(value, &path, scope, here, depth);
        }
    }

    /// A record keeps its first place; of a value written twice the later one counts, as an override does.
    fn insert(&mut self, path: &str, key: Bytes, ast: &Ast<'_>, value: Option<Bytes>) {
        let spots = &mut self.index.map.spots;
        if is_record(ast) {
            spots.entry(path.to_owned()).or_insert(Spot { key, value: None });
        } else {
            spots.insert(path.to_owned(), Spot { key, value });
        }
    }

    fn imported(&mut self, target: &OsStr, path: &str, here: Here<'_>, depth: usize) {
        let Some(file) = self.import(Path::new(target), InputFormat::Nickel, here) else {
            return;
        };
        if file.starts_with(self.library) {
            return;
        }
        // A file that cannot be read is a finding of the evaluation.
        if let Ok(text) = fs::read_to_string(&file) {
            self.file(&file, text.into(), path, depth);
        }
    }
}

fn is_record(ast: &Ast<'_>) -> bool {
    match &ast.node {
        Node::Record(_) | Node::Let { .. } | Node::Import(_) => true,
        Node::PrimOpApp { op, .. } => matches!(op, PrimOp::Merge(_)),
        Node::Annotated { inner, .. } => is_record(inner),
        _ => false,
    }
}

fn bytes_of(pos: TermPos, here: Here<'_>) -> Option<Bytes> {
    let span = pos.into_opt()?;
    Some(Bytes {
        file: here.id,
        start: span.start.0 as usize,
        end: span.end.0 as usize,
    })
}

/// Without `.` and `..`, as the evaluator names files.
fn normal(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}
