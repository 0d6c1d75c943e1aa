(* From the perceptron to gradient descent on the logistic loss: how many steps until the data are separated.

   The data are z_i = y_i a_i with |z_i| <= R, and theta* is a unit vector with <z_i, theta*> >= mu > 0 for
   all i. All the methods add to theta some g_t that is a convex combination of the data, and all the
   bounds follow from one potential argument: <theta_t, theta*> grows linearly, |theta_t|^2 at most linearly.

   This file proves, in any real inner-product space (of whose laws the seven below are all that is used):

   - if <theta_t, g_t> <= c before every one of T steps, then T <= R^2 / mu^2 + 2 c / (gamma mu^2);
   - the perceptron, which has c = 0, makes at most R^2 / mu^2 mistakes;
   - while some margin is not positive, the average of the margins under the logistic weights
     p_i = 1 / (1 + exp m_i) is at most log (2 n - 1);
   - so normalised gradient descent on the logistic loss separates the data after at most
     R^2 / mu^2 + 2 log (2 n - 1) / (gamma mu^2) steps, for every step size gamma > 0;
   - the laws hold for vectors of d + 1 real numbers.

   The n samples are numbered 0, ..., N, so that 2 n - 1 reads 2 N + 1. *)

From Coq Require Import Reals Lra Lia Psatz FunctionalExtensionality.
Open Scope R_scope.

(* The logistic weights. *)

Lemma logarithm_from_below (y : R) : 0 < y -> 1 - / y <= ln y.
Proof.
  intros y0.
  pose proof (exp_ineq1_le (- ln y)) as tangent.
  rewrite exp_Ropp, exp_ln in tangent by exact y0. lra.
Qed.

(* (m - c) / (1 + e^m) is largest where its tangent says, and nowhere exceeds e^-(c + 1). *)
Lemma weighted_excess (m c : R) : (m - c) / (1 + exp m) <= exp (- (c + 1)).
Proof.
  pose proof (exp_pos m) as positive.
  pose proof (exp_pos (- (c + 1))).
  apply Rmult_le_reg_r with (1 + exp m); [lra|].
  unfold Rdiv. rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra.
  pose proof (exp_ineq1_le (m - (c + 1))) as tangent.
  replace (m - (c + 1)) with (- (c + 1) + m) in tangent by ring.
  rewrite exp_plus in tangent. lra.
Qed.

(* A sum in which one term, the j-th, has a better bound than the others. *)
Lemma sum_with_exception (f : nat -> R) (low high : R) (N j : nat) :
  (j <= N)%nat -> (forall i, (i <= N)%nat -> f i <= high) -> f j <= low ->
  sum_f_R0 f N <= INR N * high + low.
Proof.
  induction N as [|N IH]; intros jN all one.
  - replace j with 0%nat in one by lia. simpl. lra.
  - rewrite S_INR. simpl sum_f_R0.
    destruct (Nat.eq_dec j (S N)) as [->|].
    + assert (sum_f_R0 f N <= INR (S N) * high).
      { rewrite Rmult_comm, <- sum_cte. apply sum_Rle. intros. apply all. lia. }
      rewrite S_INR in *. lra.
    + assert (sum_f_R0 f N <= INR N * high + low) by (apply IH; [lia| |exact one]; intros; apply all; lia).
      pose proof (all (S N) ltac:(lia)). lra.
Qed.

Theorem weighted_margin (N j : nat) (m : nat -> R) :
  (j <= N)%nat -> m j <= 0 ->
  sum_f_R0 (fun i => m i / (1 + exp (m i))) N
  <= ln (2 * INR N + 1) * sum_f_R0 (fun i => 1 / (1 + exp (m i))) N.
Proof.
  intros jN mj.
  pose proof (pos_INR N) as N0.
  set (c := ln (2 * INR N + 1)).
  assert (c_below : 2 * INR N / (2 * INR N + 1) <= c).
  { pose proof (logarithm_from_below (2 * INR N + 1) ltac:(lra)) as below. fold c in below.
    replace (2 * INR N / (2 * INR N + 1)) with (1 - / (2 * INR N + 1)) by (field; lra). exact below. }
  assert (c0 : 0 <= c).
  { apply Rle_trans with (2 := c_below). apply Rle_mult_inv_pos; lra. }
  assert (excess : exp (- (c + 1)) <= / (2 * (2 * INR N + 1))).
  { rewrite exp_Ropp, exp_plus. unfold c. rewrite exp_ln by lra.
    pose proof (exp_ineq1_le 1). apply Rinv_le_contravar; nra. }
  (* Subtract c from every margin: then the sum has to be at most 0. *)
  apply Rminus_le. rewrite scal_sum, <- minus_sum.
  rewrite (sum_eq _ (fun i => (m i - c) / (1 + exp (m i)))) by
    (intros i _; pose proof (exp_pos (m i)); field; lra).
  apply Rle_trans with (INR N * exp (- (c + 1)) + - (c / 2)).
  - apply sum_with_exception with j; [exact jN|intros; apply weighted_excess|].
    pose proof (exp_pos (m j)).
    assert (exp (m j) <= 1).
    { rewrite <- exp_0. destruct mj as [mj|mj]; [left; now apply exp_increasing|rewrite mj; lra]. }
    apply Rmult_le_reg_r with (1 + exp (m j)); [lra|].
    unfold Rdiv. rewrite Rmult_assoc, Rinv_l by lra. nra.
  - assert (INR N * exp (- (c + 1)) <= 2 * INR N / (2 * INR N + 1) / 4).
    { replace (2 * INR N / (2 * INR N + 1) / 4) with (INR N * / (2 * (2 * INR N + 1))) by (field; lra).
      now apply Rmult_le_compat_l. }
    lra.
Qed.

(* The potential argument. `Proof using Type*` states every law, also those that a proof does without. *)

Section InnerProductSpace.

Variables (V : Type) (zero : V) (add : V -> V -> V) (scale : R -> V -> V) (dot : V -> V -> R).
Hypothesis scale_one : forall u, scale 1 u = u.
Hypothesis scale_scale : forall a b u, scale a (scale b u) = scale (a * b) u.
Hypothesis dot_symmetric : forall u v, dot u v = dot v u.
Hypothesis dot_zero : forall u, dot zero u = 0.
Hypothesis dot_add : forall u v w, dot (add u v) w = dot u w + dot v w.
Hypothesis dot_scale : forall c u v, dot (scale c u) v = c * dot u v.
Hypothesis dot_nonnegative : forall u, 0 <= dot u u.

Lemma dot_add_right (u v w : V) : dot u (add v w) = dot u v + dot u w.
Proof. rewrite !(dot_symmetric u). apply dot_add. Qed.

Lemma dot_scale_right (c : R) (u v : V) : dot u (scale c v) = c * dot u v.
Proof. rewrite !(dot_symmetric u). apply dot_scale. Qed.

Local Ltac expand :=
  repeat rewrite ?dot_add, ?dot_scale, ?dot_add_right, ?dot_scale_right in *.

Theorem potential_bounds_the_steps
  (mu gamma c radius : R) (T : nat) (star : V) (theta : nat -> V) :
  0 < mu -> 0 < gamma -> 0 <= c -> dot star star = 1 -> theta 0%nat = zero ->
  (forall t, (t < T)%nat -> exists g,
    theta (S t) = add (theta t) (scale gamma g)
    /\ mu <= dot g star /\ dot g g <= radius ^ 2 /\ dot (theta t) g <= c) ->
  INR T <= radius ^ 2 / mu ^ 2 + 2 * c / (gamma * mu ^ 2).
Proof using Type*.
  intros mu0 gamma0 c0 unit start step.
  assert (progress : forall t, (t <= T)%nat ->
    INR t * (gamma * mu) <= dot (theta t) star
    /\ dot (theta t) (theta t) <= INR t * (gamma ^ 2 * radius ^ 2 + 2 * gamma * c)).
  { induction t as [|t IH]; intros tT.
    - rewrite start, !dot_zero. simpl. lra.
    - destruct (IH ltac:(lia)) as [aligned norm].
      destruct (step t ltac:(lia)) as (g & next & margin & length & mistake).
      rewrite next, S_INR. expand. rewrite (dot_symmetric g (theta t)).
      split; nra. }
  destruct (progress T (le_n T)) as [aligned norm].
  (* 0 <= |theta_T - s theta*|^2 with s = T gamma mu compares the two growths. *)
  set (s := INR T * (gamma * mu)) in *.
  pose proof (dot_nonnegative (add (theta T) (scale (- s) star))) as square.
  expand. rewrite (dot_symmetric star (theta T)), unit in square.
  destruct (Nat.eq_dec T 0) as [->|T1].
  - simpl INR. apply Rplus_le_le_0_compat; apply Rle_mult_inv_pos; try lra.
    + apply pow2_ge_0.
    + now apply pow_lt.
    + apply Rmult_lt_0_compat; [|apply pow_lt]; assumption.
  - assert (T0 : 0 < INR T) by (apply lt_0_INR; lia).
    assert (s0 : 0 < s) by (unfold s; repeat apply Rmult_lt_0_compat; assumption).
    assert (compared : s * s <= INR T * (gamma ^ 2 * radius ^ 2 + 2 * gamma * c)) by nra.
    replace (radius ^ 2 / mu ^ 2 + 2 * c / (gamma * mu ^ 2))
      with ((gamma ^ 2 * radius ^ 2 + 2 * gamma * c) / (gamma * mu) ^ 2) by (field; lra).
    apply Rmult_le_reg_r with ((gamma * mu) ^ 2 * INR T); [unfold s in *; nra|].
    replace (_ / _ * _) with (INR T * (gamma ^ 2 * radius ^ 2 + 2 * gamma * c)) by (field; lra).
    replace (INR T * ((gamma * mu) ^ 2 * INR T)) with (s * s) by (unfold s; ring).
    exact compared.
Qed.

(* The data, and what holds of their convex combinations. *)

Variables (N : nat) (z : nat -> V) (star : V) (radius mu : R).
Hypothesis mu_positive : 0 < mu.
Hypothesis star_unit : dot star star = 1.
Hypothesis margin : forall i, (i <= N)%nat -> mu <= dot (z i) star.
Hypothesis length : forall i, (i <= N)%nat -> dot (z i) (z i) <= radius ^ 2.

Theorem perceptron_mistakes (T : nat) (theta : nat -> V) :
  theta 0%nat = zero ->
  (forall t, (t < T)%nat -> exists i,
    (i <= N)%nat /\ dot (z i) (theta t) <= 0 /\ theta (S t) = add (theta t) (z i)) ->
  INR T <= radius ^ 2 / mu ^ 2.
Proof using Type*.
  intros start step.
  replace (radius ^ 2 / mu ^ 2) with (radius ^ 2 / mu ^ 2 + 2 * 0 / (1 * mu ^ 2)) by (field; lra).
  apply potential_bounds_the_steps with star theta; try assumption; try lra.
  intros t tT. destruct (step t tT) as (i & iN & mistake & next).
  exists (z i). rewrite scale_one, (dot_symmetric (theta t)). auto.
Qed.

Fixpoint combination (w : nat -> R) (n : nat) : V :=
  match n with
  | O => scale (w O) (z O)
  | S m => add (combination w m) (scale (w (S m)) (z (S m)))
  end.

Lemma dot_combination (w : nat -> R) (n : nat) (u : V) :
  dot (combination w n) u = sum_f_R0 (fun i => w i * dot (z i) u) n.
Proof.
  induction n as [|n IH]; simpl; [apply dot_scale|].
  now rewrite dot_add, dot_scale, IH.
Qed.

Lemma dot_at_most (u v : V) (r : R) : dot u u <= r -> dot u v <= (r + dot v v) / 2.
Proof.
  intros bound. pose proof (dot_nonnegative (add u (scale (-1) v))) as square.
  expand. rewrite (dot_symmetric v u) in square. lra.
Qed.

Lemma weighted_sum_le (w f g : nat -> R) (n : nat) :
  (forall i, (i <= n)%nat -> 0 <= w i /\ f i <= g i) ->
  sum_f_R0 (fun i => w i * f i) n <= sum_f_R0 (fun i => w i * g i) n.
Proof.
  intros le. apply sum_Rle. intros i iN. destruct (le i iN). now apply Rmult_le_compat_l.
Qed.

Lemma weighted_constant (w : nat -> R) (n : nat) (b : R) :
  sum_f_R0 (fun i => w i * b) n = b * sum_f_R0 w n.
Proof. rewrite scal_sum. reflexivity. Qed.

Theorem normalized_gradient_descent (gamma : R) (T : nat) (theta : nat -> V) :
  0 < gamma -> theta 0%nat = zero ->
  (forall t, (t < T)%nat ->
    let p := fun i => 1 / (1 + exp (dot (z i) (theta t))) in
    theta (S t) = add (theta t) (scale (gamma / sum_f_R0 p N) (combination p N))) ->
  (forall t, (t < T)%nat -> exists i, (i <= N)%nat /\ dot (z i) (theta t) <= 0) ->
  INR T <= radius ^ 2 / mu ^ 2 + 2 * ln (2 * INR N + 1) / (gamma * mu ^ 2).
Proof using Type*.
  intros gamma0 start step mistakes.
  assert (c0 : 0 <= ln (2 * INR N + 1)).
  { pose proof (pos_INR N). rewrite <- ln_1.
    destruct (Rle_lt_or_eq_dec 1 (2 * INR N + 1) ltac:(lra)) as [more|<-]; [|lra].
    apply Rlt_le, ln_increasing; lra. }
  apply potential_bounds_the_steps with star theta; try assumption.
  intros t tT. specialize (step t tT).
  set (p := fun i => 1 / (1 + exp (dot (z i) (theta t)))) in *. cbv zeta in step.
  assert (p0 : forall i, 0 < p i).
  { intros i. pose proof (exp_pos (dot (z i) (theta t))). apply Rdiv_lt_0_compat; lra. }
  set (total := sum_f_R0 p N) in *.
  assert (total0 : 0 < total).
  { unfold total. clear -p0. induction N as [|n IH]; simpl; [apply p0|]. now apply Rplus_lt_0_compat. }
  set (sum := combination p N) in *.
  (* The convex combination is g = sum / total; each fact about g is one about the sum, divided. *)
  assert (aligned : mu * total <= dot sum star).
  { unfold sum. rewrite dot_combination. unfold total. rewrite <- weighted_constant.
    apply weighted_sum_le. intros i iN. split; [apply Rlt_le, p0 | now apply margin]. }
  assert (weighted : dot (theta t) sum <= ln (2 * INR N + 1) * total).
  { destruct (mistakes t tT) as (j & jN & mistake).
    rewrite dot_symmetric. unfold sum. rewrite dot_combination.
    rewrite (sum_eq _ (fun i => dot (z i) (theta t) / (1 + exp (dot (z i) (theta t)))))
      by (intros; unfold p, Rdiv; ring).
    now apply (weighted_margin N j (fun i => dot (z i) (theta t))). }
  exists (scale (/ total) sum).
  assert (short : dot (scale (/ total) sum) (scale (/ total) sum) <= radius ^ 2).
  { set (g := scale (/ total) sum).
    (* |g|^2 is an average of the <z_i, g>, none of which exceeds (R^2 + |g|^2) / 2. *)
    assert (average : dot sum g <= (radius ^ 2 + dot g g) / 2 * total).
    { unfold sum at 1. rewrite dot_combination. unfold total. rewrite <- weighted_constant.
      apply weighted_sum_le. intros i iN. split; [apply Rlt_le, p0 | now apply dot_at_most, length]. }
    assert (dot g g * total = dot sum g) by (unfold g at 1; rewrite dot_scale; field; lra).
    nra. }
  split; [|split; [|split]].
  - now rewrite step, scale_scale.
  - rewrite dot_scale. apply Rmult_le_reg_r with total; [exact total0|].
    replace (/ total * dot sum star * total) with (dot sum star) by (field; lra). exact aligned.
  - exact short.
  - rewrite dot_scale_right. apply Rmult_le_reg_r with total; [exact total0|].
    replace (/ total * dot (theta t) sum * total) with (dot (theta t) sum) by (field; lra). exact weighted.
Qed.

End InnerProductSpace.

(* The laws are those of vectors u_0, ..., u_d of real numbers. *)

Theorem euclidean_space (d : nat) :
  let zero := fun _ : nat => 0 in
  let add := fun (u v : nat -> R) i => u i + v i in
  let scale := fun c (u : nat -> R) i => c * u i in
  let dot := fun u v : nat -> R => sum_f_R0 (fun i => u i * v i) d in
  (forall u, scale 1 u = u)
  /\ (forall a b u, scale a (scale b u) = scale (a * b) u)
  /\ (forall u v, dot u v = dot v u)
  /\ (forall u, dot zero u = 0)
  /\ (forall u v w, dot (add u v) w = dot u w + dot v w)
  /\ (forall c u v, dot (scale c u) v = c * dot u v)
  /\ (forall u, 0 <= dot u u).
Proof.
  intros zero add scale dot. unfold zero, add, scale, dot.
  repeat split; intros.
  - extensionality i. ring.
  - extensionality i. ring.
  - apply sum_eq. intros. ring.
  - apply sum_eq_R0. intros. ring.
  - rewrite <- sum_plus. apply sum_eq. intros. ring.
  - rewrite scal_sum. apply sum_eq. intros. ring.
  - apply cond_pos_sum. intros. apply Rle_0_sqr.
Qed.
