(* Twelve goals with a sketch each: claims and the hypotheses that suffice for them, without any proof. *)
From Coq Require Import Arith Lia ZArith Znumtheory List Permutation.
Import ListNotations.
Open Scope nat_scope.

Lemma square_monotone (n m : nat) (H : n <= m) : n * n <= m * m.
Proof.
  assert (h1 : n * n <= n * m). { prove_with [H]. }
  assert (h2 : n * m <= m * m). { prove_with [H]. }
  prove_with [h1, h2].
Qed.

Lemma fourth_power_monotone (n m : nat) (H : n <= m) : n * n * n * n <= m * m * m * m.
Proof.
  assert (h1 : n * n <= n * m). { prove_with [H]. }
  assert (h2 : n * m <= m * m). { prove_with [H]. }
  assert (h3 : n * n <= m * m). { prove_with [h1, h2]. }
  assert (h4 : (n * n) * (n * n) <= (n * n) * (m * m)). { prove_with [h3]. }
  assert (h5 : (n * n) * (m * m) <= (m * m) * (m * m)). { prove_with [h3]. }
  prove_with [h4, h5].
Qed.

Lemma imo_1959_p1 (n : Z) : Z.gcd (21 * n + 4) (14 * n + 3) = 1%Z.
Proof.
  assert (h : (3 * (14 * n + 3) - 2 * (21 * n + 4) = 1)%Z). { prove_with []. }
  assert (coprime : rel_prime (21 * n + 4) (14 * n + 3)).
  { apply bezout_rel_prime. apply (Bezout_intro _ _ _ (-2) 3)%Z. prove_with [h]. }
  apply Zgcd_1_rel_prime. prove_with [coprime].
Qed.

Lemma consecutive_even (n : nat) : exists k, n * (n + 1) = 2 * k.
Proof.
  induction n as [| n IH].
  - exists 0. prove_with [].
  - destruct IH as [k E]. exists (k + n + 1). prove_with [E].
Qed.

Lemma gauss_sum (f : nat -> nat) (H0 : f 0 = 0) (HS : forall n, f (S n) = f n + S n) (n : nat) :
  2 * f n = n * (n + 1).
Proof.
  induction n as [| n IH].
  - prove_with [H0].
  - assert (h : f (S n) = f n + S n). { apply HS. }
    prove_with [IH, h].
Qed.

Lemma square_sum (f : nat -> nat) (H0 : f 0 = 0) (HS : forall n, f (S n) = f n + S n * S n) (n : nat) :
  6 * f n = n * (n + 1) * (2 * n + 1).
Proof.
  induction n as [| n IH].
  - prove_with [H0].
  - assert (h : f (S n) = f n + S n * S n). { apply HS. }
    prove_with [IH, h].
Qed.

Lemma power_above (n : nat) : n < 2 ^ n.
Proof.
  induction n as [| n IH].
  - prove_with [].
  - assert (h : 2 ^ S n = 2 * 2 ^ n). { prove_with []. }
    prove_with [IH, h].
Qed.

Lemma six_divides (n : Z) : exists k, (n * (n + 1) * (2 * n + 1) = 2 * k)%Z.
Proof.
  assert (cases : exists j, (n = 2 * j \/ n = 2 * j + 1)%Z).
  { exists (n / 2)%Z. assert (h : (n = 2 * (n / 2) + n mod 2 /\ 0 <= n mod 2 < 2)%Z). { prove_with []. } prove_with [h]. }
  destruct cases as [j [E | E]].
  - exists (j * (n + 1) * (2 * n + 1))%Z. rewrite E. prove_with [].
  - exists (n * (j + 1) * (2 * n + 1))%Z. rewrite E. prove_with [].
Qed.

Lemma divides_combination (a b c : Z) (H1 : (a | b)%Z) (H2 : (a | c)%Z) : (a | b * 3 + c * 5)%Z.
Proof.
  destruct H1 as [x Ex]. destruct H2 as [y Ey].
  exists (x * 3 + y * 5)%Z. prove_with [Ex, Ey].
Qed.

Lemma permutation_of_three (A : Type) (l k m : list A) (H : Permutation l k) : length (l ++ m) = length (m ++ k).
Proof.
  assert (h1 : length l = length k). { apply Permutation_length. prove_with [H]. }
  assert (h2 : length (l ++ m) = length l + length m). { apply app_length. }
  assert (h3 : length (m ++ k) = length m + length k). { apply app_length. }
  prove_with [h1, h2, h3].
Qed.

Lemma distance_squares (a b c d : Z) :
  ((a * c + b * d) * (a * c + b * d) <= (a * a + b * b) * (c * c + d * d))%Z.
Proof.
  assert (h : ((a * a + b * b) * (c * c + d * d) - (a * c + b * d) * (a * c + b * d)
    = (a * d - b * c) * (a * d - b * c))%Z). { prove_with []. }
  assert (g : (0 <= (a * d - b * c) * (a * d - b * c))%Z). { apply Z.square_nonneg. }
  prove_with [h, g].
Qed.

Lemma no_square_is_two_mod_three (n : Z) : ((n * n) mod 3 <> 2)%Z.
Proof.
  assert (cases : (n mod 3 = 0 \/ n mod 3 = 1 \/ n mod 3 = 2)%Z). { prove_with []. }
  assert (h : ((n * n) mod 3 = ((n mod 3) * (n mod 3)) mod 3)%Z). { apply Z.mul_mod. prove_with []. }
  destruct cases as [E | [E | E]].
  - rewrite h, E. prove_with [].
  - rewrite h, E. prove_with [].
  - rewrite h, E. prove_with [].
Qed.
