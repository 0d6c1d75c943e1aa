(* Halpern's iteration for 0 in F(x) + G(x): from the potential to the rate of the last iterate.

   Write r = F(x_k) + g_k, g_k in G(x_k), for the residual, x_0 for the anchor and x* for a solution. The
   potential at weight lambda_k is

       C_k = eta / (2 lambda_k) |r|^2 + <r, x_k - x_0>.

   This file proves, in any real inner-product space (of whose laws the four below are all that is used):

   - C_k <= 0 and monotonicity, <r, x_k - x*> >= 0, give |r| <= 2 lambda_k |x_0 - x*| / eta;
   - with eta = 1 / (4 L) and lambda_k = 2 / (k + 4) that is 16 L |x_0 - x*| / (k + 4);
   - with exact values of F the potential contracts: C_(k+1) <= (1 - lambda_k) C_k;
   - the laws hold for vectors of d + 1 real numbers.

   Variance reduction has to show that C_k <= 0 also holds, in expectation, when F is sampled. *)

From Coq Require Import Reals Lra Psatz.
Open Scope R_scope.

Section InnerProductSpace.

Variables (V : Type) (add : V -> V -> V) (scale : R -> V -> V) (dot : V -> V -> R).
Hypothesis dot_symmetric : forall u v, dot u v = dot v u.
Hypothesis dot_add : forall u v w, dot (add u v) w = dot u w + dot v w.
Hypothesis dot_scale : forall c u v, dot (scale c u) v = c * dot u v.
Hypothesis dot_nonnegative : forall u, 0 <= dot u u.

Local Notation sub u v := (add u (scale (-1) v)).

Lemma dot_add_right (u v w : V) : dot u (add v w) = dot u v + dot u w.
Proof. rewrite !(dot_symmetric u). apply dot_add. Qed.

Lemma dot_scale_right (c : R) (u v : V) : dot u (scale c v) = c * dot u v.
Proof. rewrite !(dot_symmetric u). apply dot_scale. Qed.

Local Ltac expand :=
  repeat rewrite ?dot_add, ?dot_scale, ?dot_add_right, ?dot_scale_right in *.

(* Turn every product so that its factors stand in one order. *)
Local Ltac order_products :=
  repeat match goal with
  | |- context [dot ?u ?v] =>
      match goal with |- context [dot v u] => progress rewrite !(dot_symmetric u v) end
  end.

(* With a = eta / (2 lambda) and d = x_0 - x*, the hypotheses say a |r|^2 <= <r, d>; expanding
   0 <= |a r - d|^2 then gives a^2 |r|^2 <= |d|^2, without a detour through Cauchy and Schwarz. *)

Theorem potential_bounds_the_residual (eta lambda : R) (r x anchor solution : V) :
  0 < eta -> 0 < lambda ->
  eta / (2 * lambda) * dot r r + dot r (sub x anchor) <= 0 ->
  0 <= dot r (sub x solution) ->
  sqrt (dot r r) <= 2 * lambda / eta * sqrt (dot (sub anchor solution) (sub anchor solution)).
Proof.
  intros eta0 lambda0 potential monotone.
  assert (a0 : 0 < eta / (2 * lambda)) by (apply Rdiv_lt_0_compat; lra).
  replace (2 * lambda / eta) with (/ (eta / (2 * lambda))) by (field; lra).
  set (a := eta / (2 * lambda)) in *.
  set (d := sub anchor solution).
  assert (inner : a * dot r r <= dot r d) by (unfold d; expand; lra).
  assert (square : a ^ 2 * dot r r <= dot d d).
  { pose proof (dot_nonnegative (sub (scale a r) d)) as expanded.
    expand. rewrite (dot_symmetric d r) in expanded. nra. }
  apply Rmult_le_reg_l with a; [exact a0|].
  rewrite <- Rmult_assoc, Rinv_r, Rmult_1_l by lra.
  rewrite <- (sqrt_pow2 a) at 1 by lra.
  rewrite <- sqrt_mult by (try apply pow2_ge_0; apply dot_nonnegative).
  now apply sqrt_le_1_alt.
Qed.

Theorem residual_of_the_last_iterate (L : R) (k : nat) (r x anchor solution : V) :
  0 < L ->
  let eta := 1 / (4 * L) in
  let lambda := 2 / (INR k + 4) in
  eta / (2 * lambda) * dot r r + dot r (sub x anchor) <= 0 ->
  0 <= dot r (sub x solution) ->
  sqrt (dot r r) <= 16 * L / (INR k + 4) * sqrt (dot (sub anchor solution) (sub anchor solution)).
Proof.
  intros L0 eta lambda potential monotone.
  pose proof (pos_INR k).
  replace (16 * L / (INR k + 4)) with (2 * lambda / eta)
    by (unfold lambda, eta; field; lra).
  apply potential_bounds_the_residual with (x := x); try assumption;
    apply Rdiv_lt_0_compat; lra.
Qed.

(* One step x' = lambda anchor + (1 - lambda) x - eta (F(x) + g'), g' in G(x'), with exact values of F.
   Of the two operators the step sees only the inequality of each between x and x'. The difference of the
   two potentials is (k + 2) / 2 times the sum of these inequalities, plus eta times three squares. *)

Theorem potential_contracts (L : R) (k : nat) (anchor x next F_x F_next g_x g_next : V) :
  0 < L ->
  let eta := 1 / (4 * L) in
  let lambda := 2 / (INR k + 4) in
  let lambda_next := 2 / (INR (S k) + 4) in
  let r := add F_x g_x in
  let r_next := add F_next g_next in
  next = sub (add (scale lambda anchor) (scale (1 - lambda) x)) (scale eta (add F_x g_next)) ->
  dot (sub F_next F_x) (sub F_next F_x) <= L * dot (sub F_next F_x) (sub next x) ->
  0 <= dot (sub g_next g_x) (sub next x) ->
  eta / (2 * lambda_next) * dot r_next r_next + dot r_next (sub next anchor)
  <= (1 - lambda) * (eta / (2 * lambda) * dot r r + dot r (sub x anchor)).
Proof.
  intros L0 eta lambda lambda_next r r_next step cocoercive monotone.
  pose proof (pos_INR k) as k0.
  set (delta := sub F_next F_x) in *.
  set (m := (INR k + 2) / 2).
  assert (difference :
    (1 - lambda) * (eta / (2 * lambda) * dot r r + dot r (sub x anchor))
    - (eta / (2 * lambda_next) * dot r_next r_next + dot r_next (sub next anchor))
    = m * (dot delta (sub next x) - dot delta delta / L)
      + m * dot (sub g_next g_x) (sub next x)
      + eta * (m / 2 * dot (sub (sub r_next r) delta) (sub (sub r_next r) delta)
               + dot (sub (scale (1 / 2) r_next) delta) (sub (scale (1 / 2) r_next) delta)
               + (7 / 2 * m - 1) * dot delta delta)).
  { clear cocoercive monotone.
    unfold r, r_next, delta. rewrite step. expand. order_products.
    unfold m, lambda, lambda_next, eta. rewrite S_INR. field. lra. }
  assert (eta0 : 0 < eta) by (apply Rdiv_lt_0_compat; lra).
  assert (m1 : 1 <= m) by (unfold m; lra).
  assert (dot delta delta / L <= dot delta (sub next x)).
  { apply Rmult_le_reg_l with L; [exact L0|].
    replace (L * (dot delta delta / L)) with (dot delta delta) by (field; lra). exact cocoercive. }
  apply Rminus_le. rewrite <- Ropp_minus_distr, difference.
  apply Rge_le, Ropp_0_le_ge_contravar.
  apply Rplus_le_le_0_compat; [apply Rplus_le_le_0_compat|]; apply Rmult_le_pos; try lra.
  apply Rplus_le_le_0_compat; [apply Rplus_le_le_0_compat|];
    try apply Rmult_le_pos; try apply dot_nonnegative; lra.
Qed.

End InnerProductSpace.

(* The laws are those of vectors u_0, ..., u_d of real numbers. *)

Theorem euclidean_space (d : nat) :
  let add := fun (u v : nat -> R) i => u i + v i in
  let scale := fun c (u : nat -> R) i => c * u i in
  let dot := fun u v : nat -> R => sum_f_R0 (fun i => u i * v i) d in
  (forall u v, dot u v = dot v u)
  /\ (forall u v w, dot (add u v) w = dot u w + dot v w)
  /\ (forall c u v, dot (scale c u) v = c * dot u v)
  /\ (forall u, 0 <= dot u u).
Proof.
  intros add scale dot. unfold add, scale, dot.
  repeat split; intros.
  - apply sum_eq. intros. ring.
  - rewrite <- sum_plus. apply sum_eq. intros. ring.
  - rewrite scal_sum. apply sum_eq. intros. ring.
  - apply cond_pos_sum. intros. apply Rle_0_sqr.
Qed.
