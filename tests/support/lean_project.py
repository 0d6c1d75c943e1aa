"""A project of Lean 4 as Lake leaves it, with a package: compiled for real, by Lean without its standard library.

What tactics of Lean's own library are, Lean takes from its compiled code, whatever the definitions of their names say.
"""

import os
import subprocess
import sys

from lean_command import COMMAND
from lean_library import TEXT

TACTICS = ("apply", "assumption", "constructor", "exact", "focus", "intro", "refine", "rotateRight", "skip")
MACROS = tuple(f"Lean.Parser.Tactic.{it}" for it in ("tacticHave__", "tacticRefine_lift_", "tacticSorry"))
RULES = "Lean.Parser.Tactic._aux_Init_Tactics___macroRules"

PACKAGE = (
    TEXT
    + """inductive Lean.ParserDescr where
  | symbol (val : String)
"""
    + "".join(
        f'@[tactic_parser 1000] def {name} : Lean.ParserDescr := .symbol "#"\n'
        for name in ("Lean.cdot", *MACROS, *(f"Lean.Parser.Tactic.{it}" for it in TACTICS))
    )
    + "def Lean.Macro : Type := Nat → Nat → Nat → Nat\n"
    + "".join(
        f"@[macro {it}] def {RULES}_{it.replace('.', '_')}_1 : Lean.Macro := fun syntax_ _ _ => syntax_\n"
        for it in MACROS
    )
)

BASIC = """prelude
import Base
namespace Logic
/-- Both of two; 𝔸𝔹 are outside the first plane. -/
structure Both (p q : Prop) : Prop where
  /-- It has a name of its own. -/
  both ::
  left : p
  right : q
/- 𝔸 -/ /-- One of itself: theorem wrong := nothing. -/ theorem self (n : Nat) : Eq n n := Eq.refl n
/-- Swapped, 𝔸. -/
protected theorem Both.swap {p q : Prop} : Both p q → Both q p := by
  intro h -- by nothing
  constructor
  · /- 𝔸 -/ exact h.right
  · exact Both.left h
private theorem hidden : Both (Eq Nat.zero Nat.zero) (Eq Nat.zero Nat.zero) :=
  Both.both (self _) (self Nat.zero)
noncomputable def two : Nat := Nat.succ (Nat.succ Nat.zero)
end Logic
"""

USE = """prelude
import Project.Basic
open Logic
theorem two_twice : Both (Eq two two) (Eq two two) := by
  apply Both.swap
  exact (by
    constructor
    exact self two
    skip
    assumption_free)
@[reducible] noncomputable def three : Nat := Nat.succ two
theorem levels.{u} {α : Sort u} (a : α) : Eq a a := Eq.refl a
theorem «not a name» (h : Eq three three) : Eq three three := by assumption
theorem in_a_line : Eq two two := by exact
  (self two : Eq two (Nat.succ (Nat.succ Nat.zero)))
theorem by_parts : Both (Eq two two) (Eq two two) where
  left := self two
  right := by
    exact self two
theorem _root_.Other.again (n : Nat) : Eq n n :=
  let rec aux (n : Nat) : Eq n n := self n
  aux n
""".replace("assumption_free", "apply self")


def write(folder):
    """Write the project, compile it, and return the folders of compiled modules, entries of `LEAN_PATH`."""
    package = folder / ".lake" / "packages" / "base"
    texts = {
        package / "Base.lean": PACKAGE,
        folder / "Project" / "Basic.lean": BASIC,
        folder / "Project" / "Use.lean": USE,
        folder / "lakefile.toml": 'name = "project"\n',
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    built = [root / ".lake" / "build" / "lib" / "lean" for root in (package, folder)]
    (built[1] / "Project").mkdir(parents=True)
    built[0].mkdir(parents=True)
    environment = os.environ | {"LEAN_PATH": os.pathsep.join(map(str, built))}
    for root, to, module in (
        (package, *built[:1], "Base"),
        (folder, built[1], "Project/Basic"),
        (folder, built[1], "Project/Use"),
    ):
        command = [*COMMAND, "-o", to / f"{module}.olean", "-i", to / f"{module}.ilean", f"{module}.lean"]
        subprocess.run(command, cwd=root, env=environment, check=True)
    return tuple(built)


def install(folder, libraries):
    """Write the programs `lean` and `lake` into a folder, which the caller puts on the `PATH`; return it."""
    programs = folder / "toolchain" / "bin"
    programs.mkdir(parents=True)
    (programs / "launch.py").write_text(COMMAND[2])
    lean = f'[ "$1" = --print-prefix ] && echo {programs.parent} || exec {COMMAND[0]} {programs}/launch.py "$@"'
    # The interpreter that starts it has to be seen in the sandbox.
    entries = os.pathsep.join(map(str, (*libraries, sys.prefix, sys.base_prefix)))
    for name, script in (("lean", lean), ("lake", f'shift && LEAN_PATH={entries} exec "$@"')):
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    return programs
