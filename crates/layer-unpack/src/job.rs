//! One run of the tool: where the layers come from, and the three places that they can go to.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use layer::apply::{Destination, IdMap, Lowers, Options, Owner, Select, TreeSink};
use layer::change::Escaped;
use layer::cli::{self, Lines, Progress};
use layer::confine::Confinement;
use layer::image::{self, Image, ImageCache, OpenOptions, Reference};
use layer::overlay::Namespace;
use layer::record::{self, LayerRecord};
use layer::store::{Added, Chain, Store};
use layer::stream::Expected;
use layer::unpack::{LayerRange, Unpacked, unpack};

use crate::args::Args;

/// What the command line asks for.
pub(crate) struct Job {
    image: Option<(String, Image)>,
    /// Where the image is, unless on stdin.
    medium: Option<PathBuf>,
    layers: LayerRange,
    select: Select,
    options: Options,
    max_size: Option<u64>,
    progress: Progress,
    verbose: bool,
}

impl Job {
    /// Opens the image and joins the options.
    pub(crate) fn new(args: &Args) -> Result<Self> {
        let owner = if args.no_same_owner {
            Owner::Caller
        } else {
            Owner::Mapped { uids: IdMap::new(args.uid_maps.clone())?, gids: IdMap::new(args.gid_maps.clone())? }
        };
        let mut medium = None;
        let image = args.image.as_ref().map(|reference| {
            let name = reference.display().to_string();
            let options =
                OpenOptions { platform: args.platform.clone(), max_size: args.max_size, ..OpenOptions::default() };
            let image = Reference::parse(reference).and_then(|reference| {
                medium = (!reference.is_stdin()).then(|| reference.path.clone());
                Image::open(&reference, &options)
            });
            image.map(|image| (name.clone(), image)).with_context(|| name)
        });
        let namespace = if args.userxattr { Namespace::User } else { Namespace::Trusted };
        let job = Self {
            image: image.transpose()?,
            medium,
            layers: args.layers.unwrap_or(LayerRange::ALL),
            select: Select { paths: args.paths.clone(), excludes: args.excludes.clone() },
            options: Options { owner, no_xattrs: args.no_xattrs, namespace },
            max_size: args.max_size,
            progress: Progress::new(args.quiet),
            verbose: args.verbose,
        };
        if let Some((name, image)) = &job.image {
            job.layers.check(image.layers().len()).with_context(|| name.clone())?;
        }
        Ok(job)
    }

    /// Returns what reading the layers takes.
    fn inputs(&self) -> Result<Confinement> {
        let nothing = Confinement::new();
        match &self.medium {
            Some(path) => nothing.reads(path).with_context(|| path.display().to_string()),
            None => Ok(nothing),
        }
    }

    /// Gives up all but what is kept, and says so if asked.
    fn confine(&self, kept: Confinement) {
        let confined = kept.enforce();
        if self.verbose {
            cli::warn(&confined.to_string());
        }
    }

    /// Applies the layers to the plain directory `dir`.
    pub(crate) fn apply(&self, dir: &Path) -> Result<()> {
        let destination = Destination::open(dir).with_context(|| cli::name(dir))?;
        self.confine(destination.keep(self.inputs()?)?);
        let mut fresh = destination.is_new();
        let sink = || {
            let mut sink = TreeSink::plain(destination.root()?, self.options.clone());
            if std::mem::take(&mut fresh) {
                sink.start_root()?;
            }
            Ok(sink)
        };
        self.unpack_all(sink)?;
        destination.finish().with_context(|| cli::name(dir))
    }

    /// Makes `dir` one layer in overlay form.
    pub(crate) fn make_overlay(&self, dir: &Path, lowers: &[PathBuf]) -> Result<()> {
        if let Some((name, image)) = &self.image {
            let count = (0..image.layers().len()).filter(|&number| self.layers.contains(number)).count();
            ensure!(count == 1, "{name}: {count} layers, expected one (choose it with `--layers`, or use `--store`)");
        }
        let known = !lowers.is_empty();
        let inputs = lowers.iter().try_fold(self.inputs()?, |inputs, lower| inputs.reads(lower)).context("--lower")?;
        let lowers = Lowers::open(lowers, self.options.namespace).context("--lower")?;
        let destination = Destination::open_empty(dir).with_context(|| cli::name(dir))?;
        self.confine(destination.keep(inputs)?);
        let mut lowers = known.then_some(lowers);
        let sink = || TreeSink::overlay(destination.root()?, lowers.take(), self.options.clone());
        self.unpack_all(sink)?;
        destination.finish().with_context(|| cli::name(dir))
    }

    /// Unpacks the layers of the image, or the one on stdin, each into a sink of its own.
    fn unpack_all(&self, mut sink: impl FnMut() -> Result<TreeSink>) -> Result<()> {
        let Some((name, image)) = &self.image else {
            let blob = cli::open(Path::new("-")).context("<stdin>")?;
            let blob = self.progress.reader(blob, "<stdin>", None);
            let unpacked = unpack(blob, &Expected::default(), self.max_size, &self.select, sink()?);
            return self.say("<stdin>", &unpacked.context("<stdin>")?);
        };
        for (number, record) in image.layers().iter().enumerate().filter(|(number, _)| self.layers.contains(*number)) {
            let label = format!("{name}: layer {number}");
            let mut unpack = || {
                let blob = self.watch(image.open_layer(number)?, number, record);
                unpack(blob, &Expected::of(record), self.max_size, &self.select, sink()?)
            };
            self.say(&label, &unpack().with_context(|| label.clone())?)?;
        }
        Ok(())
    }

    fn watch(&self, blob: Box<dyn Read + Send>, number: usize, record: &LayerRecord) -> impl Read + Send + use<> {
        self.progress.reader(blob, &format!("layer {number}"), record.size)
    }

    fn say(&self, label: &str, unpacked: &Unpacked) -> Result<()> {
        for warning in &unpacked.warnings {
            cli::warn(&format!("{label}: {warning}"));
        }
        if self.verbose {
            cli::warn(&format!("{label}: {}: unpacked", unpacked.sums.diff_id));
        }
        Ok(())
    }

    /// Sees to it that the store at `path` has the layers, and prints their records.
    pub(crate) fn fill(&self, path: &Path) -> Result<()> {
        let store = Store::open(path).with_context(|| cli::name(path))?;
        // Records name the images that have the blobs: each may be anywhere, and compressed.
        let inputs = if self.image.is_some() { self.inputs()? } else { Confinement::new().reads_anywhere().spool() };
        self.confine(store.keep(inputs)?);
        let mut out = Lines::stdout();
        let mut chain = Chain::default();
        if let Some((name, image)) = &self.image {
            for (number, record) in image.layers().iter().enumerate() {
                let label = format!("{name}: layer {number}");
                let added = self.add(&store, &mut chain, record, number, || image.open_layer(number));
                self.print(&mut out, number, &label, added.with_context(|| label.clone())?)?;
            }
            return Ok(());
        }
        let mut images = ImageCache::default();
        let stdin = cli::open(Path::new("-")).context("<stdin>")?;
        for (number, record) in record::read_records(BufReader::new(stdin)).enumerate() {
            let label = format!("<stdin>: layer {number}");
            let record = record.context("<stdin>")?;
            let added = self.add(&store, &mut chain, &record, number, || image::open_blob(&record, &mut images));
            self.print(&mut out, number, &label, added.with_context(|| label.clone())?)?;
        }
        Ok(())
    }

    /// Adds one layer to the store, if it is wanted, and returns its record with what is known now.
    fn add(
        &self,
        store: &Store,
        chain: &mut Chain,
        record: &LayerRecord,
        number: usize,
        open: impl FnOnce() -> Result<Box<dyn Read + Send>>,
    ) -> Result<(LayerRecord, Option<Added>)> {
        let chain = chain.push(record)?;
        let Some((&top, below)) = chain.split_last() else { bail!("a stack of no layers has no top") };
        let mut record = record.clone();
        record.chain_id = Some(top);
        record.parent = below.last().copied();
        record.path = Some(store.path_of(top).into_os_string());
        if !self.layers.contains(number) {
            return Ok((record, None));
        }
        let open = || Ok(self.watch(open()?, number, &record));
        let added = store.add(chain, &Expected::of(&record), self.max_size, &self.options, open)?;
        Ok((record, Some(added)))
    }

    fn print(
        &self,
        out: &mut Lines<cli::Stdout>,
        number: usize,
        label: &str,
        (record, added): (LayerRecord, Option<Added>),
    ) -> Result<()> {
        let what = match added {
            None => return Ok(()),
            Some(Added::AlreadyExists) => "already exists",
            Some(Added::Unpacked(warnings)) => {
                for warning in warnings {
                    cli::warn(&format!("{label}: {warning}"));
                }
                "unpacked"
            }
        };
        if self.verbose {
            let path = record.path.as_deref().unwrap_or_default();
            cli::warn(&format!("layer {number}: {}: {what}", Escaped(std::os::unix::ffi::OsStrExt::as_bytes(path))));
        }
        out.write(&record)?;
        // The next stage may start with it.
        out.flush()
    }
}
