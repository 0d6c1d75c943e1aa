"""A Rocq project of two files, with what the compiler (8.16) writes beside them."""

from pathlib import Path

BASE = """\
(* Größe: every offset from here on counts bytes, not characters. *)
Inductive parity := even | odd.
Definition flip p := match p with even => odd | odd => even end.
Lemma flipK p : flip (flip p) = p.
Proof. (* both. *)
  destruct p.
  - reflexivity.
  - reflexivity.
Qed.
Section S.
Let twice := flipK.
Lemma ex1 : flip even = odd. Proof. reflexivity. Qed.
End S.
"""

BASE_GLOB = """\
DIGEST 37604e0991bc3fc741402775464bfac4
Fbase
ind 81:86 <> parity
constr 91:94 <> even
constr 98:100 <> odd
def 114:117 <> flip
binder 119:119 <> p:3
R130:130 base <> p:3 var
R137:140 base <> even constr
R145:147 base <> odd constr
R151:153 base <> odd constr
R158:161 base <> even constr
prf 174:178 <> flipK
binder 180:180 <> p:5
R197:199 Coq.Init.Logic <> ::type_scope:x_'='_x not
R184:187 base <> flip def
R190:193 base <> flip def
R195:195 base <> p:5 var
R200:200 base <> p:5 var
sec 283:283 <> S
var 290:294 S twice
R299:303 base <> flipK thm
prf 312:314 <> ex1
R327:329 Coq.Init.Logic <> ::type_scope:x_'='_x not
R318:321 base <> flip def
R323:326 base <> even constr
R330:332 base <> odd constr
R364:364 base S <> sec
"""

USER = """\
Require Import base.
Lemma ex1 : flip odd = even. Proof. now rewrite <- (flipK even), base.ex1. Qed.
Lemma ex2 : flip (flip odd) = odd.
Proof. rewrite ex1. exact base.ex1. Qed.
"""

USER_GLOB = """\
DIGEST ff2e21c74bf5dedf5e7c03748a6f8bf7
Fuser
R15:18 base <> <> lib
prf 27:29 <> ex1
R41:43 Coq.Init.Logic <> ::type_scope:x_'='_x not
R33:36 base <> flip def
R38:40 base <> odd constr
R44:47 base <> even constr
R73:77 base <> flipK thm
R79:82 base <> even constr
R86:93 base <> ex1 thm
R73:77 base <> flipK thm
R79:82 base <> even constr
R73:77 base <> flipK thm
R79:82 base <> even constr
R86:93 base <> ex1 thm
R86:93 base <> ex1 thm
prf 107:109 <> ex2
R128:130 Coq.Init.Logic <> ::type_scope:x_'='_x not
R113:116 base <> flip def
R119:122 base <> flip def
R124:126 base <> odd constr
R131:133 base <> odd constr
R151:153 user <> ex1 thm
R151:153 user <> ex1 thm
R151:153 user <> ex1 thm
R162:169 base <> ex1 thm
R162:169 base <> ex1 thm
"""


def write(directory: Path, *, compiled: bool = True) -> Path:
    """Put the project into `directory`, with or without its .glob files."""
    files = {"base.v": BASE, "user.v": USER} | ({"base.glob": BASE_GLOB, "user.glob": USER_GLOB} if compiled else {})
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
    return directory
