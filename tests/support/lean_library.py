"""A library for Lean in place of its own: what a theorem with a gap, `sorry`, is made of, and a little logic."""

import subprocess

from lean_command import COMMAND

TEXT = """prelude
set_option genCtorIdx false
universe u
unsafe axiom lcErased : Type
unsafe axiom lcAny : Type
inductive False : Prop
inductive True : Prop where | intro : True
set_option bootstrap.inductiveCheckResultingUniverse false in
inductive PUnit : Sort u where | unit : PUnit
inductive Eq {α : Sort u} : α → α → Prop where | refl (a : α) : Eq a a
inductive And (a b : Prop) : Prop where | intro (left : a) (right : b) : And a b
inductive Nat where | zero | succ (n : Nat)
inductive Bool : Type where | false | true
axiom String : Type
axiom Lean.Name : Type
axiom Lean.Name.anonymous : Lean.Name
axiom Lean.Name.str : Lean.Name → String → Lean.Name
axiom Lean.Name.num : Lean.Name → Nat → Lean.Name
class OfNat (α : Type u) (n : Nat) where ofNat : α
axiom instOfNatNat (n : Nat) : OfNat Nat n
axiom sorryAx (α : Sort u) (synthetic : Bool) : α
axiom propext {a b : Prop} : (a → b) → (b → a) → Eq a b
"""


def compile_library(folder):
    """Write it into a folder, and what Lean makes of it."""
    (folder / "Base.lean").write_text(TEXT)
    subprocess.run([*COMMAND, "-o", "Base.olean", "Base.lean"], cwd=folder, check=True)
