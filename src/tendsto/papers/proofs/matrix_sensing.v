(* Gradient descent on an over-parameterised factorisation: the scalar recursions that decide its speed.

   In the population model a redundant direction of the symmetric factor shrinks by itself,

       s_(t+1) = s_t - eta s_t^3,

   and the squared error of the product is at least s_t^4. This file proves that 1 / s_t^2 grows linearly,
   by at least 2 eta and at most 3 eta a step, so that s_t^4 is of the order 1 / t^2 and no faster; and the
   identities by which a pair of unequal factors f, g keeps its imbalance f^2 - g^2, which is what turns
   the asymmetric factorisation linear. *)

From Coq Require Import Reals Lra Psatz.
Open Scope R_scope.

(* One step of 1 / s^2. With a = eta s^2 the new value is (1 / s^2) (1 - a)^(-2). *)

Lemma next_is_positive (eta s : R) :
  0 < eta -> 0 < s -> eta * s ^ 2 <= 1 / 8 -> 0 < s - eta * s ^ 3.
Proof. intros. nra. Qed.

Lemma step_of_the_reciprocal (eta s c : R) :
  0 < s -> 0 < s - eta * s ^ 3 ->
  1 / (s - eta * s ^ 3) ^ 2
  = 1 / s ^ 2 + c * eta
    + eta * ((2 - c + (2 * c - 1) * (eta * s ^ 2) - c * (eta * s ^ 2) ^ 2) / (1 - eta * s ^ 2) ^ 2).
Proof.
  intros s0 next0.
  assert (factor : s - eta * s ^ 3 = s * (1 - eta * s ^ 2)) by ring.
  assert (1 - eta * s ^ 2 <> 0) by (intros zero; rewrite factor, zero in next0; lra).
  rewrite factor. field. split; [assumption | lra].
Qed.

Lemma ratio_is_positive (eta s : R) : 0 < eta -> 0 < s -> 0 < eta * s ^ 2.
Proof. intros. now apply Rmult_lt_0_compat; [|apply pow_lt]. Qed.

Theorem reciprocal_grows_at_most (eta s : R) :
  0 < eta -> 0 < s -> eta * s ^ 2 <= 1 / 8 ->
  1 / (s - eta * s ^ 3) ^ 2 <= 1 / s ^ 2 + 3 * eta.
Proof.
  intros eta0 s0 small.
  pose proof (ratio_is_positive eta s eta0 s0).
  rewrite (step_of_the_reciprocal eta s 3) by (auto using next_is_positive).
  set (a := eta * s ^ 2) in *.
  (* (1 - a)^(-2) <= 1 + 3 a as long as 5 a <= 1 + 3 a^2. *)
  assert ((2 - 3 + (2 * 3 - 1) * a - 3 * a ^ 2) / (1 - a) ^ 2 <= 0)
    by (apply Ropp_le_cancel; rewrite Ropp_0, <- Ropp_div; apply Rle_mult_inv_pos; nra).
  nra.
Qed.

Theorem reciprocal_grows_at_least (eta s : R) :
  0 < eta -> 0 < s -> eta * s ^ 2 <= 1 / 8 ->
  1 / s ^ 2 + 2 * eta <= 1 / (s - eta * s ^ 3) ^ 2.
Proof.
  intros eta0 s0 small.
  pose proof (ratio_is_positive eta s eta0 s0).
  rewrite (step_of_the_reciprocal eta s 2) by (auto using next_is_positive).
  set (a := eta * s ^ 2) in *.
  assert (0 <= (2 - 2 + (2 * 2 - 1) * a - 2 * a ^ 2) / (1 - a) ^ 2)
    by (apply Rle_mult_inv_pos; nra).
  nra.
Qed.

(* All steps. The sequence stays positive and decreases, so the smallness of the first step carries over. *)

Section Recursion.

Variables (eta : R) (s : nat -> R).
Hypothesis eta_positive : 0 < eta.
Hypothesis start_positive : 0 < s 0%nat.
Hypothesis start_small : eta * s 0%nat ^ 2 <= 1 / 8.
Hypothesis recursion : forall t, s (S t) = s t - eta * s t ^ 3.

Lemma stays_small (t : nat) : 0 < s t /\ eta * s t ^ 2 <= 1 / 8.
Proof.
  induction t as [|t [s0 small]]; [now split|].
  rewrite recursion.
  pose proof (next_is_positive eta (s t) eta_positive s0 small) as next0.
  split; [exact next0|].
  assert (s t - eta * s t ^ 3 <= s t) by (assert (0 < s t ^ 3) by (now apply pow_lt); nra).
  nra.
Qed.

Lemma reciprocal_after (t : nat) :
  1 / s 0%nat ^ 2 + 2 * eta * INR t <= 1 / s t ^ 2 <= 1 / s 0%nat ^ 2 + 3 * eta * INR t.
Proof.
  induction t as [|t IH]; [simpl INR; lra|].
  destruct (stays_small t) as [s0 small].
  pose proof (reciprocal_grows_at_least eta (s t) eta_positive s0 small).
  pose proof (reciprocal_grows_at_most eta (s t) eta_positive s0 small).
  rewrite recursion, S_INR. lra.
Qed.

Lemma reciprocal_of_square (t : nat) : s t ^ 2 = 1 / (1 / s t ^ 2).
Proof. destruct (stays_small t). field. lra. Qed.

Lemma positive_denominator (c : R) (t : nat) : 0 <= c -> 0 < 1 / s 0%nat ^ 2 + c * eta * INR t.
Proof.
  intros c0. pose proof (pos_INR t).
  assert (0 < 1 / s 0%nat ^ 2) by (apply Rdiv_lt_0_compat; [lra|now apply pow_lt]).
  assert (0 <= c * eta * INR t) by (repeat apply Rmult_le_pos; lra).
  lra.
Qed.

Theorem redundant_direction_shrinks_slowly (t : nat) :
  1 / (1 / s 0%nat ^ 2 + 3 * eta * INR t) <= s t ^ 2.
Proof.
  rewrite (reciprocal_of_square t). unfold Rdiv at 1 3. rewrite !Rmult_1_l.
  destruct (stays_small t). apply Rinv_le_contravar.
  - apply Rdiv_lt_0_compat; [lra|now apply pow_lt].
  - apply reciprocal_after.
Qed.

Theorem redundant_direction_shrinks (t : nat) :
  s t ^ 2 <= 1 / (1 / s 0%nat ^ 2 + 2 * eta * INR t).
Proof.
  rewrite (reciprocal_of_square t). unfold Rdiv at 1 3. rewrite !Rmult_1_l.
  apply Rinv_le_contravar.
  - apply positive_denominator. lra.
  - apply reciprocal_after.
Qed.

Theorem error_is_at_least_quadratic (t : nat) :
  1 / (1 / s 0%nat ^ 2 + 3 * eta * INR t) ^ 2 <= s t ^ 4.
Proof.
  pose proof (redundant_direction_shrinks_slowly t) as slowly.
  pose proof (positive_denominator 3 t ltac:(lra)) as positive.
  set (bound := 1 / s 0%nat ^ 2 + 3 * eta * INR t) in *.
  replace (s t ^ 4) with ((s t ^ 2) ^ 2) by ring.
  replace (1 / bound ^ 2) with ((1 / bound) ^ 2) by (field; lra).
  apply pow_incr. split; [|exact slowly].
  apply Rlt_le, Rdiv_lt_0_compat; lra.
Qed.

End Recursion.

(* Unequal factors: f+ = f - eta f g^2 and g+ = g - eta g f^2, both from the old pair. *)

Theorem imbalance_is_kept (eta f g : R) :
  (f - eta * f * g ^ 2) ^ 2 - (g - eta * g * f ^ 2) ^ 2
  = (f ^ 2 - g ^ 2) * (1 - eta ^ 2 * f ^ 2 * g ^ 2).
Proof. ring. Qed.

Theorem product_contracts (eta f g : R) :
  (f - eta * f * g ^ 2) * (g - eta * g * f ^ 2) = f * g * (1 - eta * g ^ 2) * (1 - eta * f ^ 2).
Proof. ring. Qed.
