//! Learned call sites: a place in the code whose call has blocked gives the seat away as that call begins, and takes it back
//! as it returns. So nobody waits until the watchdog has found it.
//!
//! A place is learned when a step loses the seat there, if it is a call. From then on its code object has events for calls
//! (`sys.monitoring`, local to that code): `CALL` gives away, `C_RETURN` and `C_RAISE` take back, before the next instruction.
//! Nothing has to be armed for that: the call is of native code, and its frame does not move meanwhile.
//!
//! A place that turns out to be quick loses its credit and is forgotten. One whose callee is not plainly native (a class, a
//! callable object, a function of `builtins`, all of which may run Python code) is noted as not to be learned, and so is one
//! that was seen to call back into Python: such code would run beside the loop.
//!
//! The table is the process's, as code objects are, and bounded. Its entries keep their code objects.
//!
//! Source: PEP 669; "sys.monitoring" of the library reference.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::time::Duration;

use pyo3::ffi;

use super::fence;
use crate::ffi::frames::CallSite;
use crate::ffi::function::{Function, add_functions};
use crate::ffi::{Args, GilCell, Owned, Result, check};

/// How many places are known at once; the one that was used least recently makes room.
const MOST: usize = 256;
/// A call that lasts as long was worth giving the seat away.
const WORTH_IT: Duration = Duration::from_millis(1);
/// How many quick calls a newly learned place has before it is forgotten, and how many at most.
const FIRST_CREDIT: u8 = 4;
const MOST_CREDIT: u8 = 16;

/// A place: the address of its code object, and the offset of the call there in bytes.
pub type Place = (usize, c_int);

/// What is known of a place.
struct Site {
    code: Owned,
    /// Whether its calls give the seat away; else it is one that must not.
    gives: bool,
    credit: u8,
    /// How many steps are inside of it, without the seat.
    inside: usize,
    /// How often it gave the seat away.
    given: u64,
    /// The table's clock when it was last used.
    used: u64,
}

#[derive(Default)]
struct Table {
    sites: BTreeMap<Place, Site>,
    clock: u64,
    /// Code objects of places that made room: dropping them may run Python code, so that is done where it may.
    gone: Vec<Owned>,
}

static TABLE: GilCell<Table> = GilCell::new(Table { sites: BTreeMap::new(), clock: 0, gone: Vec::new() });

impl Table {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn of_code(&self, code: usize) -> impl Iterator<Item = &Site> {
        self.sites.range((code, c_int::MIN)..=(code, c_int::MAX)).map(|(_, site)| site)
    }

    /// Takes the place out that was used least recently and that nobody is in.
    fn evict(&mut self) -> Option<Site> {
        let idle = self.sites.iter().filter(|(_, site)| site.inside == 0);
        let (place, _) = idle.min_by_key(|(_, site)| site.used)?;
        let place = *place;
        self.sites.remove(&place)
    }
}

/// Whether the code object needs events for calls: some place in it gives the seat away, or somebody is inside.
pub fn is_watched(code: &Owned) -> bool {
    TABLE.with(|table| table.of_code(code.as_ptr() as usize).any(|site| site.gives || site.inside > 0))
}

/// Learns the place where a step is about to lose the seat, if it is a call; whether it gives the seat away from now on.
///
/// The interpreter is not given away meanwhile.
pub fn learn(site: CallSite) -> bool {
    let place = site.place();
    let known = TABLE.with(|table| table.sites.get(&place).map(|site| site.gives));
    if let Some(gives) = known {
        return gives;
    }
    if !fence::is_call(&site) {
        return false;
    }
    let code = site.code;
    let kept = code.clone();
    if is_watched(&code) {
        // Its other calls have none any more, perhaps this one among them: they get theirs back with all events.
        fence::take_call_events(&code);
    }
    let (evicted, before) = TABLE.with(|table| {
        let evicted = if table.sites.len() >= MOST { table.evict() } else { None };
        let used = table.tick();
        let site = Site { code, gives: true, credit: FIRST_CREDIT, inside: 0, given: 0, used };
        (evicted, table.sites.insert(place, site))
    });
    fence::refresh(&kept);
    drop(before);
    if let Some(evicted) = evicted {
        fence::refresh(&evicted.code);
        TABLE.with(|table| table.gone.push(evicted.code));
    }
    true
}

/// What a call does as it begins.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Begin {
    /// It gives the seat away.
    Gives,
    /// It keeps it.
    Keeps,
    /// It keeps it, and so will others there until a place in this code is learned.
    NeedsNoEvents,
}

/// A call begins at the place.
pub fn begin(place: Place, callable: &Owned) -> Begin {
    let Some((gives, inside)) =
        TABLE.with(|table| table.sites.get(&place).map(|site| (site.gives, site.inside)))
    else {
        return Begin::NeedsNoEvents;
    };
    if gives && !is_plainly_native(callable) {
        forbid(place);
        return Begin::Keeps;
    }
    match (gives, inside) {
        (true, _) => Begin::Gives,
        (false, 0) => Begin::NeedsNoEvents,
        (false, _) => Begin::Keeps,
    }
}

/// A step goes into the place without the seat.
pub fn enter(place: Place) {
    TABLE.with(|table| {
        let used = table.tick();
        if let Some(site) = table.sites.get_mut(&place) {
            site.inside += 1;
            site.given += 1;
            site.used = used;
        }
    });
}

/// A step has come back from it, after so long. `called_back`: out of Python code that the call has run.
pub fn leave(place: Place, took: Duration, called_back: bool) {
    let changed = TABLE.with(|table| {
        let site = table.sites.get_mut(&place)?;
        site.inside = site.inside.saturating_sub(1);
        site.credit =
            if took >= WORTH_IT { (site.credit + 1).min(MOST_CREDIT) } else { site.credit.saturating_sub(1) };
        site.gives &= !called_back;
        // While anybody is inside, its return is waited for.
        let is_unused = site.inside == 0;
        if is_unused && site.gives && site.credit == 0 {
            return table.sites.remove(&place).map(|site| site.code);
        }
        (is_unused && !site.gives).then(|| site.code.clone())
    });
    if let Some(code) = changed {
        fence::refresh(&code);
    }
    drop(TABLE.with(|table| std::mem::take(&mut table.gone)));
}

/// Notes that calls at the place keep the seat.
#[cold]
fn forbid(place: Place) {
    let code = TABLE.with(|table| {
        let site = table.sites.get_mut(&place)?;
        site.gives = false;
        Some(site.code.clone())
    });
    if let Some(code) = code {
        fence::refresh(&code);
    }
}

/// Forgets all places; returns their code objects, whose events are to be taken back.
pub fn forget_all() -> Vec<Owned> {
    let table = TABLE.take();
    table.sites.into_values().map(|site| site.code).chain(table.gone).collect()
}

/// Whether the callable is a function or method of an extension module, and not one of `builtins`, many of which call what
/// they are given.
fn is_plainly_native(callable: &Owned) -> bool {
    if callable.is_exactly(&raw mut ffi::PyMethodDescr_Type) {
        return true;
    }
    if !callable.is_exactly(&raw mut ffi::PyCFunction_Type) {
        return false;
    }
    // SAFETY: F1; a built-in function; both pointers are borrowed and only compared. The module exists always.
    unsafe { ffi::PyCFunction_GetSelf(callable.as_ptr()) != ffi::PyImport_AddModule(c"builtins".as_ptr()) }
}

/// `_learned_call_sites()`: a list of `(code, offset, given)`.
fn list(_args: Args<'_>) -> Result {
    let known: Vec<(Owned, c_int, u64)> = TABLE.with(|table| {
        let giving = table.sites.iter().filter(|(_, site)| site.gives);
        giving.map(|((_, offset), site)| (site.code.clone(), *offset, site.given)).collect()
    });
    // SAFETY: F1; gives a new reference or null.
    let list = unsafe { Owned::from_new(ffi::PyList_New(0))? };
    for (code, offset, given) in known {
        let entry = Owned::tuple([code, Owned::int(i64::from(offset))?, Owned::int(given as i64)?])?;
        // SAFETY: F1; the list takes a reference of its own.
        check(unsafe { ffi::PyList_Append(list.as_ptr(), entry.as_ptr()) })?;
    }
    Ok(list)
}

const FUNCTIONS: [Function; 1] = [(
    c"_learned_call_sites",
    crate::function!(c"_learned_call_sites", list),
    c"_learned_call_sites(): the places whose calls give the loop away, as (code, offset, how often).",
)];

/// Adds the function.
pub fn load(module: &Owned) -> Result<()> {
    add_functions(module, FUNCTIONS)
}
