(* The last iterate of stochastic gradient methods: the sums behind the rate without a logarithm.

   With the steps eta_t = eta (T - t + 1) / T^(3/2), t = 1, ..., T, the last iterate of stochastic mirror
   descent is within (distance) / (sum of the steps) + (noise) * sum_t eta_t^2 / S_t of the optimum, where
   S_t = eta_t + ... + eta_T. This file proves

   - the closed form of the tail sums S_t;
   - that the second sum is at most 2 eta / sqrt T: the logarithm that a constant step would leave there
     is gone;
   - the identity by which the weighted one-step inequalities of the analysis telescope to the last iterate
     alone, for positive weights of any shape.

   `sum_f t T f` of the standard library is f t + ... + f T, for t <= T. *)

From Coq Require Import Reals Lra Lia.
Open Scope R_scope.

(* Sums from t to T: by their last term, and by their first. *)

Lemma sum_f_single (f : nat -> R) (t : nat) : sum_f t t f = f t.
Proof. unfold sum_f. now rewrite Nat.sub_diag. Qed.

Lemma sum_f_last (f : nat -> R) (t T : nat) :
  (t <= T)%nat -> sum_f t (S T) f = sum_f t T f + f (S T).
Proof.
  intros tT. unfold sum_f.
  replace (S T - t)%nat with (S (T - t)) by lia.
  simpl. do 2 f_equal. lia.
Qed.

Lemma sum_f_first (f : nat -> R) (t T : nat) :
  (t < T)%nat -> sum_f t T f = f t + sum_f (S t) T f.
Proof.
  induction T as [|T IH]; intros tT; [lia|].
  destruct (Nat.eq_dec t T) as [->|].
  - rewrite sum_f_last by lia. now rewrite !sum_f_single.
  - rewrite !sum_f_last by lia. rewrite IH by lia. ring.
Qed.

Lemma sum_f_split (f : nat -> R) (n T : nat) :
  (1 <= n < T)%nat -> sum_f 1 T f = sum_f 1 n f + sum_f (S n) T f.
Proof.
  induction n as [|n IH]; intros nT; [lia|].
  destruct (Nat.eq_dec n 0) as [->|].
  - rewrite sum_f_first, sum_f_single by lia. reflexivity.
  - rewrite IH, sum_f_last, (sum_f_first f (S n)) by lia. ring.
Qed.

Lemma sum_f_le (f g : nat -> R) (t T : nat) :
  (t <= T)%nat -> (forall s, (t <= s <= T)%nat -> f s <= g s) -> sum_f t T f <= sum_f t T g.
Proof.
  induction T as [|T IH]; intros tT fg.
  - replace t with 0%nat in * by lia. rewrite !sum_f_single. apply fg. lia.
  - destruct (Nat.eq_dec t (S T)) as [->|].
    + rewrite !sum_f_single. apply fg. lia.
    + rewrite !sum_f_last by lia.
      apply Rplus_le_compat; [apply IH; [lia|]; intros s ?|]; apply fg; lia.
Qed.

Lemma sum_f_constant (c : R) (T : nat) : (1 <= T)%nat -> sum_f 1 T (fun _ => c) = INR T * c.
Proof.
  induction T as [|T IH]; intros T1; [lia|].
  destruct T as [|T].
  - rewrite sum_f_single. simpl. ring.
  - rewrite sum_f_last, IH by lia. rewrite (S_INR (S T)). ring.
Qed.

(* Linear decay. The summand counts the steps left, so the tail is a triangular number. *)

Lemma power_is_positive (x : R) : 0 < Rpower x (3 / 2).
Proof. apply exp_pos. Qed.

Theorem linear_decay_tail_sum (eta : R) (T t : nat) :
  (t <= T)%nat ->
  sum_f t T (fun s => eta * (INR T - INR s + 1) / Rpower (INR T) (3 / 2))
  = eta * (INR T - INR t + 1) * (INR T - INR t + 2) / (2 * Rpower (INR T) (3 / 2)).
Proof.
  intros tT.
  pose proof (power_is_positive (INR T)) as positive.
  (* Downwards from t = T: each step to the left adds one summand in front. *)
  remember (T - t)%nat as left eqn:from_t. revert t tT from_t.
  induction left as [|left IH]; intros t tT from_t.
  - replace t with T by lia. rewrite sum_f_single. field. lra.
  - rewrite sum_f_first by lia. rewrite IH by lia.
    rewrite S_INR. field. lra.
Qed.

Theorem linear_decay_has_no_logarithm (eta : R) (T : nat) :
  0 < eta -> (1 <= T)%nat ->
  let step := fun t => eta * (INR T - INR t + 1) / Rpower (INR T) (3 / 2) in
  sum_f 1 T (fun t => step t * step t / sum_f t T step) <= 2 * eta / sqrt (INR T).
Proof.
  intros eta0 T1 step.
  pose proof (power_is_positive (INR T)) as positive.
  assert (T0 : 0 < INR T) by (apply lt_0_INR; lia).
  pose proof (sqrt_lt_R0 _ T0) as root.
  assert (split : Rpower (INR T) (3 / 2) = INR T * sqrt (INR T)).
  { replace (3 / 2) with (1 + / 2) by lra. now rewrite Rpower_plus, Rpower_1, Rpower_sqrt. }
  (* Each of the T summands is 2 eta / T^(3/2) times (T - t + 1) / (T - t + 2) < 1. *)
  apply Rle_trans with (sum_f 1 T (fun _ => 2 * eta / Rpower (INR T) (3 / 2))).
  - apply sum_f_le; [exact T1|]. intros t [_ tT].
    unfold step. rewrite linear_decay_tail_sum by exact tT.
    apply le_INR in tT.
    replace (_ / _) with
      (2 * eta / Rpower (INR T) (3 / 2) * ((INR T - INR t + 1) / (INR T - INR t + 2)))
      by (field; repeat split; lra).
    rewrite <- (Rmult_1_r (2 * eta / _)) at 2.
    apply Rmult_le_compat_l.
    + apply Rlt_le, Rdiv_lt_0_compat; lra.
    + apply Rmult_le_reg_r with (INR T - INR t + 2); [lra|].
      unfold Rdiv. rewrite Rmult_assoc, Rinv_l; lra.
  - rewrite sum_f_constant by exact T1. rewrite split.
    apply Req_le. field. lra.
Qed.

(* The weights. With v_t = gamma_T / S_t the products v_t S_t do not depend on t, so that
   (v_t - v_{t-1}) S_t = gamma_{t-1} v_{t-1}, and summation by parts leaves the last term. *)

Lemma sum_f_positive (f : nat -> R) (t T : nat) :
  (t <= T)%nat -> (forall s, (t <= s <= T)%nat -> 0 < f s) -> 0 < sum_f t T f.
Proof.
  induction T as [|T IH]; intros tT f0.
  - replace t with 0%nat in * by lia. rewrite sum_f_single. apply f0. lia.
  - destruct (Nat.eq_dec t (S T)) as [->|].
    + rewrite sum_f_single. apply f0. lia.
    + rewrite sum_f_last by lia.
      apply Rplus_lt_0_compat; [apply IH; [lia|]; intros s ?|]; apply f0; lia.
Qed.

Theorem weights_select_the_last_iterate (T : nat) (gamma v a : nat -> R) :
  (1 <= T)%nat ->
  (forall t, (1 <= t <= T)%nat -> 0 < gamma t) ->
  (forall t, (1 <= t <= T)%nat -> v t = gamma T / sum_f t T gamma) ->
  v 0%nat = v 1%nat ->
  sum_f 1 T (fun t =>
    gamma t * v t * (a (S t) - sum_f 1 t (fun s => (v s - v (pred s)) / v t * a s)))
  = gamma T * a (S T).
Proof.
  intros T1 positive weight start.
  assert (tail : forall t, (1 <= t <= T)%nat -> 0 < sum_f t T gamma).
  { intros t ?. apply sum_f_positive; [lia|]. intros s ?. apply positive. lia. }
  assert (constant : forall t, (1 <= t <= T)%nat -> v t * sum_f t T gamma = gamma T).
  { intros t ?. rewrite weight by assumption. field. apply Rgt_not_eq, tail. assumption. }
  assert (nonzero : forall t, (1 <= t <= T)%nat -> v t <> 0).
  { intros t tT vanishes. pose proof (constant t tT). pose proof (positive T ltac:(lia)).
    rewrite vanishes in *. lra. }
  set (shift := fun s => (v s - v (pred s)) * a s).
  set (inner := fun t => sum_f 1 t shift).
  (* The division by v_t cancels against the factor v_t. *)
  assert (scaled : forall t, (1 <= t <= T)%nat ->
    v t * sum_f 1 t (fun s => (v s - v (pred s)) / v t * a s) = inner t).
  { intros t tT. pose proof (nonzero t tT) as vt. unfold inner, sum_f.
    rewrite scal_sum. apply sum_eq. intros s _. unfold shift. field. exact vt. }
  (* The weights that come after n. *)
  set (owed := fun n => sum_f 1 T gamma - sum_f 1 n gamma).
  assert (tail_owed : forall n, (1 <= n < T)%nat -> sum_f (S n) T gamma = owed n).
  { intros n nT. unfold owed. rewrite (sum_f_split gamma n) by lia. ring. }
  assert (balance : forall n, (1 <= n < T)%nat -> gamma n * v n = (v (S n) - v n) * owed n).
  { intros n nT. rewrite <- tail_owed by lia.
    pose proof (constant n ltac:(lia)) as at_n.
    pose proof (constant (S n) ltac:(lia)) as at_next.
    rewrite (sum_f_first gamma n) in at_n by lia. lra. }
  assert (partial : forall n, (1 <= n <= T)%nat ->
    sum_f 1 n (fun t => gamma t * v t * (a (S t) - sum_f 1 t (fun s => (v s - v (pred s)) / v t * a s)))
    = gamma n * v n * a (S n) + owed n * inner n).
  { assert (term : forall t, (1 <= t <= T)%nat ->
      gamma t * v t * (a (S t) - sum_f 1 t (fun s => (v s - v (pred s)) / v t * a s))
      = gamma t * v t * a (S t) - gamma t * inner t).
    { intros t tT. rewrite <- (scaled t tT). ring. }
    induction n as [|n IH]; intros nT; [lia|].
    destruct (Nat.eq_dec n 0) as [->|].
    - rewrite sum_f_single, term by lia.
      unfold inner. rewrite sum_f_single. unfold shift. simpl pred. rewrite start. ring.
    - rewrite sum_f_last, IH, term by lia.
      replace (inner (S n)) with (inner n + (v (S n) - v n) * a (S n))
        by (unfold inner; now rewrite sum_f_last by lia).
      rewrite balance by lia.
      replace (owed n) with (gamma (S n) + owed (S n))
        by (unfold owed; rewrite (sum_f_last gamma 1 n) by lia; ring).
      ring. }
  (* After T nothing is owed, and v_T = 1. *)
  rewrite partial by lia.
  replace (owed T) with 0 by (unfold owed; ring).
  replace (v T) with 1; [ring|].
  rewrite weight, sum_f_single by lia. field. apply Rgt_not_eq, positive. lia.
Qed.
