//! The answers, one function each.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, bail};
use layer::apply::Pattern;
use layer::change::{Escaped, LayerPath};
use layer::cli::{self, Lines, Status, Table, human_size};
use layer::files::{Files, flatten, lint as rules, list as listing, report, story, waste as losses};
use layer::image::Image;
use layer::tree::{self, Tree, What};

use crate::args::Args;

/// Bytes that are gathered before they are written.
const BUFFER: usize = 128 << 10;

pub(crate) fn list(files: &Files, args: &Args, patterns: &[Pattern]) -> Result<Status> {
    let paths = files.select(patterns)?;
    let links = listing::links(&files.tree);
    let digests = if args.digest { files.digests(&paths)? } else { HashMap::new() };
    let columns = args.table.then(|| listing::Columns::of(files, &paths));
    let mut out = Lines::stdout();
    for path in paths {
        let Some(line) = listing::Line::of(files, path, &links, &digests) else { continue };
        match (&columns, line.sha256) {
            (None, _) => out.write(&line)?,
            (Some(columns), Some(digest)) => out.text(&format!("{} {}", digest.hex(), columns.line(&line)))?,
            (Some(columns), None) if args.digest => out.text(&format!("{:64} {}", "", columns.line(&line)))?,
            (Some(columns), None) => out.text(&columns.line(&line))?,
        }
    }
    out.flush()?;
    Ok(Status::Success)
}

pub(crate) fn layers(files: &Files, args: &Args, patterns: &[Pattern]) -> Result<Status> {
    let paths = files.select_from(files.tree.walk_all(Tree::ROOT), patterns)?;
    let changes = story::changes(&files.tree, &paths);
    let mut out = Lines::stdout();
    if !args.table {
        for (layer, changes) in files.layers.iter().zip(&changes) {
            out.write(&story::ChangesLine { files, layer, changes })?;
        }
    }
    for (layer, changes) in files.layers.iter().zip(&changes).filter(|_| args.table) {
        out.text(format!("layer {} {}", layer.layer, Escaped(layer.created_by.as_bytes())).trim_end())?;
        let marked = [('A', &changes.added), ('M', &changes.modified), ('D', &changes.removed), ('O', &changes.opaque)];
        for (mark, paths) in marked {
            paths.iter().try_for_each(|&path| out.text(&format!("{mark} /{}", path_text(files, path))))?;
        }
    }
    out.flush()?;
    Ok(Status::Success)
}

pub(crate) fn whence(files: &Files, args: &Args, path: &OsStr) -> Result<Status> {
    let steps = story::whence(files, &LayerPath::parse(path.as_bytes())?, args.digest)?;
    let mut out = Lines::stdout();
    if args.table {
        let mut table = Table::new(&[">LAYER", "ACTION", "HOW", ">SIZE", "MODE", "CREATED BY"]);
        for step in steps {
            let there = step.action != "removed";
            let how = match &step.cause {
                Some((via, by)) => format!("{} /{by}", via.word()),
                None => step.changed.join(","),
            };
            let size = match step.line.node {
                layer::change::Node::File(size) if there => human_size(size),
                _ => String::new(),
            };
            let mode = listing::mode(&step.line.node, step.line.meta.mode);
            table.row([
                step.layer.layer.to_string(),
                step.action.to_owned(),
                how,
                size,
                if there { mode } else { String::new() },
                step.layer.created_by.clone(),
            ]);
        }
        out.bytes(table.to_string().as_bytes())?;
    } else {
        steps.iter().try_for_each(|step| out.write(step))?;
    }
    out.flush()?;
    Ok(Status::Success)
}

pub(crate) fn cat(files: &Files, path: &OsStr) -> Result<Status> {
    let (found, entry) = files.tree.resolve(path.as_bytes())?;
    if files.tree.what(files.tree.inode(entry)) != What::File {
        let kind = listing::kind(&files.tree.node(entry));
        bail!("`/{}` is a {kind}, expected a file", path_text(files, found));
    }
    let mut out = BufWriter::with_capacity(BUFFER, cli::stdout());
    let size = files.tree.size(entry);
    files.contents().read(entry, |body| tree::copy(body, size, &mut |bytes| Ok(out.write_all(bytes)?)))?;
    out.flush()?;
    Ok(Status::Success)
}

pub(crate) fn tar(files: &Files, patterns: &[Pattern]) -> Result<Status> {
    let out = BufWriter::with_capacity(BUFFER, cli::binary_stdout()?);
    flatten::write(files, &files.select(patterns)?, out)?.flush()?;
    Ok(Status::Success)
}

pub(crate) fn waste(files: &Files, args: &Args, patterns: &[Pattern]) -> Result<Status> {
    let paths = files.select_from(files.tree.walk_all(Tree::ROOT), patterns)?;
    let waste = losses::find(files, &paths);
    let mut out = Lines::stdout();
    if args.table {
        out.bytes(waste.paths_table(files).to_string().as_bytes())?;
        out.text("")?;
        out.bytes(waste.layers_table(files).to_string().as_bytes())?;
        out.text("")?;
        let (wasted, stored) = (human_size(waste.wasted), human_size(waste.stored));
        out.text(&format!("{wasted} of {stored} wasted ({:.2}%)", waste.percent()))?;
        out.text(&format!("efficiency {:.4}", waste.efficiency))?;
    } else {
        out.write(&losses::WasteObject(files, &waste))?;
    }
    out.flush()?;
    args.max_waste.map_or(Ok(()), |max| waste.check(max))?;
    Ok(Status::Success)
}

pub(crate) fn lint(image: &Image, args: &Args, patterns: &[Pattern]) -> Result<Status> {
    let mut findings = rules::check(image, args.max_size)?;
    findings.retain(|finding| {
        let path = LayerPath::parse(&finding.name);
        patterns.is_empty() || path.is_ok_and(|path| patterns.iter().any(|pattern| pattern.covers(&path)))
    });
    let mut out = Lines::stdout();
    if !args.table {
        findings.iter().try_for_each(|finding| out.write(&rules::FindingLine(finding)))?;
    } else if !findings.is_empty() {
        let [entries, tools] = rules::tables(&findings);
        out.bytes(format!("{entries}\n{tools}").as_bytes())?;
    }
    out.flush()?;
    Ok(if findings.is_empty() { Status::Success } else { Status::Different })
}

pub(crate) fn html(files: &Files) -> Result<Status> {
    let mut out = BufWriter::with_capacity(BUFFER, cli::stdout());
    report::write(files, &mut out)?;
    out.flush()?;
    Ok(Status::Success)
}

fn path_text(files: &Files, path: tree::PathId) -> String {
    files.tree.path(path).to_string().trim_start_matches('/').to_owned()
}
