(* Forty short theorems whose proofs have structure: claims with proofs of their own, and case distinctions. *)
From Coq Require Import Arith Lia ZArith Znumtheory List Bool Permutation.
Import ListNotations.
Open Scope nat_scope.

Lemma square_monotone (n m : nat) (H : n <= m) : n * n <= m * m.
Proof.
  assert (h1 : n * n <= n * m). { apply Nat.mul_le_mono_l. exact H. }
  assert (h2 : n * m <= m * m). { apply Nat.mul_le_mono_r. exact H. }
  lia.
Qed.

Lemma cube_monotone (n m : nat) (H : n <= m) : n * n * n <= m * m * m.
Proof.
  assert (h1 : n * n <= m * m). { apply Nat.mul_le_mono; exact H. }
  assert (h2 : n * n * n <= m * m * n). { apply Nat.mul_le_mono_r. exact h1. }
  assert (h3 : m * m * n <= m * m * m). { apply Nat.mul_le_mono_l. exact H. }
  lia.
Qed.

Lemma odd_square_one (k : nat) : exists j, (2 * k + 1) * (2 * k + 1) = 2 * j + 1.
Proof.
  assert (h : (2 * k + 1) * (2 * k + 1) = 2 * (2 * k * k + 2 * k) + 1). { ring. }
  assert (same : 2 * k * k + 2 * k = 2 * (k * k + k)). { ring. }
  exists (2 * k * k + 2 * k). exact h.
Qed.

Lemma consecutive_even (n : nat) : exists k, n * (n + 1) = 2 * k.
Proof.
  induction n as [| n IH].
  - exists 0. reflexivity.
  - destruct IH as [k E].
    assert (h : S n * (S n + 1) = n * (n + 1) + 2 * (n + 1)). { ring. }
    exists (k + n + 1). rewrite h, E. ring.
Qed.

Lemma sum_of_squares_positive (x y : Z) : (0 <= x * x + y * y)%Z.
Proof.
  assert (hx : (0 <= x * x)%Z). { apply Z.square_nonneg. }
  assert (hy : (0 <= y * y)%Z). { apply Z.square_nonneg. }
  lia.
Qed.

Lemma two_products (x y : Z) : (2 * (x * y) <= x * x + y * y)%Z.
Proof.
  assert (h1 : (0 <= (x - y) * (x - y))%Z). { apply Z.square_nonneg. }
  assert (h2 : ((x - y) * (x - y) = x * x - 2 * (x * y) + y * y)%Z). { ring. }
  lia.
Qed.

Lemma three_products (x y z : Z) : (x * y + y * z + z * x <= x * x + y * y + z * z)%Z.
Proof.
  assert (h1 : (0 <= (x - y) * (x - y))%Z). { apply Z.square_nonneg. }
  assert (h2 : (0 <= (y - z) * (y - z))%Z). { apply Z.square_nonneg. }
  assert (h3 : (0 <= (z - x) * (z - x))%Z). { apply Z.square_nonneg. }
  nia.
Qed.

Lemma imo_1959_p1 (n : Z) : Z.gcd (21 * n + 4) (14 * n + 3) = 1%Z.
Proof.
  assert (h : (3 * (14 * n + 3) - 2 * (21 * n + 4) = 1)%Z). { ring. }
  assert (coprime : rel_prime (21 * n + 4) (14 * n + 3)).
  { apply bezout_rel_prime. apply (Bezout_intro _ _ _ (-2) 3)%Z. lia. }
  apply Zgcd_1_rel_prime. exact coprime.
Qed.

Lemma divides_sum (a b c : Z) (H1 : (a | b)%Z) (H2 : (a | c)%Z) : (a | b * 3 + c * 5)%Z.
Proof.
  assert (h1 : (a | b * 3)%Z). { apply Z.divide_mul_l. exact H1. }
  assert (h2 : (a | c * 5)%Z). { apply Z.divide_mul_l. exact H2. }
  apply Z.divide_add_r; assumption.
Qed.

Lemma divides_difference (a b c : Z) (H1 : (a | b)%Z) (H2 : (a | b + c)%Z) : (a | c)%Z.
Proof.
  assert (h : (c = (b + c) - b)%Z). { ring. }
  rewrite h.
  assert (d : (a | (b + c) - b)%Z). { apply Z.divide_sub_r; assumption. }
  exact d.
Qed.

Lemma six_divides (n : Z) : exists k, (n * (n + 1) * (2 * n + 1) = 2 * k)%Z.
Proof.
  assert (cases : exists j, n = (2 * j)%Z \/ n = (2 * j + 1)%Z).
  { exists (n / 2)%Z. pose proof (Z.div_mod n 2). pose proof (Z.mod_pos_bound n 2). lia. }
  destruct cases as [j [E | E]].
  - exists (j * (n + 1) * (2 * n + 1))%Z. rewrite E. ring.
  - exists (n * (j + 1) * (2 * n + 1))%Z. rewrite E. ring.
Qed.

Lemma gauss_sum (f : nat -> nat) (H0 : f 0 = 0) (HS : forall n, f (S n) = f n + S n) (n : nat) :
  2 * f n = n * (n + 1).
Proof.
  induction n as [| n IH].
  - rewrite H0. reflexivity.
  - assert (h : 2 * f (S n) = 2 * f n + 2 * S n). { rewrite HS. ring. }
    rewrite h, IH. ring.
Qed.

Lemma odd_sum (f : nat -> nat) (H0 : f 0 = 0) (HS : forall n, f (S n) = f n + (2 * n + 1)) (n : nat) : f n = n * n.
Proof.
  induction n as [| n IH].
  - rewrite H0. reflexivity.
  - assert (h : S n * S n = n * n + (2 * n + 1)). { ring. }
    rewrite HS, IH, h. reflexivity.
Qed.

Lemma square_sum (f : nat -> nat) (H0 : f 0 = 0) (HS : forall n, f (S n) = f n + S n * S n) (n : nat) :
  6 * f n = n * (n + 1) * (2 * n + 1).
Proof.
  induction n as [| n IH].
  - rewrite H0. reflexivity.
  - assert (h : 6 * f (S n) = 6 * f n + 6 * (S n * S n)). { rewrite HS. ring. }
    rewrite h, IH. ring.
Qed.

Lemma power_positive (n : nat) : 1 <= 2 ^ n.
Proof.
  induction n as [| n IH].
  - simpl. lia.
  - assert (h : 2 ^ S n = 2 * 2 ^ n). { apply Nat.pow_succ_r'. }
    rewrite h. lia.
Qed.

Lemma power_above (n : nat) : n < 2 ^ n.
Proof.
  induction n as [| n IH].
  - simpl. lia.
  - assert (h : 2 ^ S n = 2 * 2 ^ n). { apply Nat.pow_succ_r'. }
    assert (one : 1 <= 2 ^ n). { lia. }
    lia.
Qed.

Lemma bernoulli (x n : nat) : 1 + n * x <= (1 + x) ^ n.
Proof.
  induction n as [| n IH].
  - simpl. lia.
  - assert (h : (1 + x) ^ S n = (1 + x) * (1 + x) ^ n). { apply Nat.pow_succ_r'. }
    assert (g : (1 + x) * (1 + n * x) <= (1 + x) * (1 + x) ^ n). { apply Nat.mul_le_mono_l. exact IH. }
    rewrite h. nia.
Qed.

Lemma app_length_comm (A : Type) (l k : list A) : length (l ++ k) = length (k ++ l).
Proof.
  assert (h1 : length (l ++ k) = length l + length k). { apply app_length. }
  assert (h2 : length (k ++ l) = length k + length l). { apply app_length. }
  lia.
Qed.

Lemma rev_twice_app (A : Type) (l k : list A) : rev (rev (l ++ k)) = l ++ k.
Proof.
  assert (h : rev (l ++ k) = rev k ++ rev l). { apply rev_app_distr. }
  rewrite h.
  assert (g : rev (rev k ++ rev l) = rev (rev l) ++ rev (rev k)). { apply rev_app_distr. }
  rewrite g, !rev_involutive. reflexivity.
Qed.

Lemma map_length_app (A B : Type) (f : A -> B) (l k : list A) : length (map f (l ++ k)) = length l + length k.
Proof.
  assert (h : length (map f (l ++ k)) = length (l ++ k)). { apply map_length. }
  assert (g : length (l ++ k) = length l + length k). { apply app_length. }
  congruence.
Qed.

Lemma in_middle (A : Type) (x : A) (l k : list A) : In x (l ++ x :: k).
Proof.
  assert (h : In x (x :: k)). { simpl. left. reflexivity. }
  assert (g : In x l \/ In x (x :: k)). { right. exact h. }
  apply in_or_app. exact g.
Qed.

Lemma not_in_parts (A : Type) (x : A) (l k : list A) (H : ~ In x (l ++ k)) : ~ In x l /\ ~ In x k.
Proof.
  assert (hl : ~ In x l). { intro i. apply H. apply in_or_app. left. exact i. }
  assert (hk : ~ In x k). { intro i. apply H. apply in_or_app. right. exact i. }
  split.
  - exact hl.
  - exact hk.
Qed.

Lemma permutation_length_three (A : Type) (l k m : list A) (H1 : Permutation l k) (H2 : Permutation k m) :
  length l = length m.
Proof.
  assert (h1 : length l = length k). { apply Permutation_length. exact H1. }
  assert (h2 : length k = length m). { apply Permutation_length. exact H2. }
  congruence.
Qed.

Lemma permutation_swap_app (A : Type) (l k m : list A) (H : Permutation l k) : Permutation (l ++ m) (m ++ k).
Proof.
  assert (h1 : Permutation (l ++ m) (k ++ m)). { apply Permutation_app_tail. exact H. }
  assert (h2 : Permutation (k ++ m) (m ++ k)). { apply Permutation_app_comm. }
  apply (Permutation_trans h1 h2).
Qed.

Lemma and_comm3 (P Q R : Prop) : P /\ Q /\ R -> R /\ Q /\ P.
Proof.
  intros [p [q r]].
  split.
  - exact r.
  - split.
    + exact q.
    + exact p.
Qed.

Lemma or_cases (P Q R : Prop) (H : P \/ Q) (f : P -> R) (g : Q -> R) : R.
Proof.
  destruct H as [p | q].
  - assert (r : R). { apply f. exact p. }
    exact r.
  - assert (r : R). { apply g. exact q. }
    exact r.
Qed.

Lemma not_not_em (P : Prop) : ~ ~ (P \/ ~ P).
Proof.
  intro no.
  assert (np : ~ P). { intro p. apply no. left. exact p. }
  apply no. right. exact np.
Qed.

Lemma contrapositive_chain (P Q R : Prop) (f : P -> Q) (g : Q -> R) : ~ R -> ~ P.
Proof.
  intros nr p.
  assert (q : Q). { apply f. exact p. }
  assert (r : R). { apply g. exact q. }
  exact (nr r).
Qed.

Lemma bool_absorb (a b : bool) : a && (a || b) = a.
Proof.
  destruct a.
  - assert (h : true || b = true). { reflexivity. }
    rewrite h. reflexivity.
  - reflexivity.
Qed.

Lemma bool_distributes (a b c : bool) : a && (b || c) = a && b || a && c.
Proof.
  destruct a.
  - destruct b.
    + reflexivity.
    + reflexivity.
  - reflexivity.
Qed.

Lemma max_square (n m : nat) : Nat.max n m * Nat.max n m <= n * n + m * m.
Proof.
  assert (cases : n <= m \/ m <= n). { lia. }
  destruct cases as [H | H].
  - assert (h : Nat.max n m = m). { lia. }
    rewrite h. nia.
  - assert (h : Nat.max n m = n). { lia. }
    rewrite h. nia.
Qed.

Lemma abs_triangle (x y : Z) : (Z.abs (x + y) <= Z.abs x + Z.abs y)%Z.
Proof.
  assert (hx : (- Z.abs x <= x <= Z.abs x)%Z). { lia. }
  assert (hy : (- Z.abs y <= y <= Z.abs y)%Z). { lia. }
  assert (up : (x + y <= Z.abs x + Z.abs y)%Z). { lia. }
  apply Z.abs_le. lia.
Qed.

Lemma product_zero (x y : Z) (H : (x * y = 0)%Z) : (x = 0 \/ y = 0)%Z.
Proof.
  assert (cases : x = 0%Z \/ x <> 0%Z). { lia. }
  destruct cases as [E | E].
  - left. exact E.
  - right. assert (h : (x * y = x * 0)%Z). { lia. }
    apply (Z.mul_reg_l y 0 x E h).
Qed.

Lemma square_zero (x : Z) (H : (x * x = 0)%Z) : x = 0%Z.
Proof.
  assert (h : (x = 0 \/ x = 0)%Z). { apply Z.mul_eq_0. exact H. }
  destruct h as [E | E].
  - exact E.
  - exact E.
Qed.

Lemma mod_two_square (n : nat) (H : n mod 2 = 1) : (n * n) mod 2 = 1.
Proof.
  assert (h : (n * n) mod 2 = ((n mod 2) * (n mod 2)) mod 2). { apply Nat.mul_mod. lia. }
  rewrite h, H.
  assert (g : (1 * 1) mod 2 = 1). { reflexivity. }
  exact g.
Qed.

Lemma even_or_odd (n : nat) : exists k, n = 2 * k \/ n = 2 * k + 1.
Proof.
  induction n as [| n IH].
  - exists 0. left. reflexivity.
  - destruct IH as [k [E | E]].
    + exists k. right. assert (h : S n = 2 * k + 1). { lia. }
      exact h.
    + exists (S k). left. assert (h : S n = 2 * S k). { lia. }
      exact h.
Qed.

Lemma double_injective (n m : nat) (H : n + n = m + m) : n = m.
Proof.
  assert (hn : n + n = 2 * n). { ring. }
  assert (hm : m + m = 2 * m). { ring. }
  lia.
Qed.

Lemma sandwich (a b c : nat) (H1 : a <= b) (H2 : b <= c) (H3 : a = c) : a * b = c * c.
Proof.
  assert (h : b = c). { lia. }
  assert (g : a = c). { exact H3. }
  rewrite h, g. reflexivity.
Qed.

Lemma div_step (n : nat) : (n + 4) / 2 = n / 2 + 2.
Proof.
  assert (h : n + 4 = n + 2 * 2). { reflexivity. }
  rewrite h.
  assert (g : (n + 2 * 2) / 2 = n / 2 + 2). { apply Nat.div_add. lia. }
  exact g.
Qed.

Lemma difference_of_squares (x y : Z) (H : (0 <= y <= x)%Z) : (0 <= x * x - y * y)%Z.
Proof.
  assert (f : (x * x - y * y = (x - y) * (x + y))%Z). { ring. }
  assert (h1 : (0 <= x - y)%Z). { lia. }
  assert (h2 : (0 <= x + y)%Z). { lia. }
  rewrite f. apply Z.mul_nonneg_nonneg; assumption.
Qed.
