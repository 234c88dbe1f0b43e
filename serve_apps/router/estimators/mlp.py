"""A small neural network over all models at once; trained with torch, run with NumPy."""

from __future__ import annotations

import numpy as np

from serve_apps.router.estimators.scorer import Floats, Scorer, State, Table, sigmoid


class MlpScorer(Scorer):
    """One hidden layer shared by all models, a logit each; early stopping on a tenth held out."""

    name = "mlp"

    def __init__(
        self,
        hidden: int = 64,
        epochs: int = 40,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.05,
        dropout: float = 0.3,
    ) -> None:
        self.hidden = hidden
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout

    def fit(self, shared: State, table: Table, rng: np.random.Generator) -> State:
        """AdamW on the cross-entropy of the scores that are known."""
        import torch

        torch.manual_seed(int(rng.integers(1 << 31)))
        known = np.isfinite(table.y)
        x = torch.tensor(table.x, dtype=torch.float32)
        y = torch.tensor(np.where(known, table.y, 0.0), dtype=torch.float32)
        mask = torch.tensor(known, dtype=torch.float32)
        net = torch.nn.Sequential(
            torch.nn.Linear(x.shape[1], self.hidden),
            torch.nn.ReLU(),
            torch.nn.Dropout(self.dropout),
            torch.nn.Linear(self.hidden, y.shape[1]),
        )
        optimizer = torch.optim.AdamW(
            net.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )

        def loss(rows: torch.Tensor) -> torch.Tensor:
            each = torch.nn.functional.binary_cross_entropy_with_logits(
                net(x[rows]), y[rows], reduction="none"
            )
            return (each * mask[rows]).sum() / mask[rows].sum().clamp(min=1)

        order = torch.tensor(rng.permutation(len(x)))
        held, kept = order[: len(x) // 10], order[len(x) // 10 :]
        best, state = float("inf"), {k: v.clone() for k, v in net.state_dict().items()}
        for _ in range(self.epochs):
            net.train()
            for rows in kept[torch.tensor(rng.permutation(len(kept)))].split(128):
                optimizer.zero_grad()
                loss(rows).backward()
                optimizer.step()
            net.eval()
            with torch.no_grad():
                now = float(loss(held if len(held) else kept))
            if now < best:
                best, state = now, {k: v.clone() for k, v in net.state_dict().items()}
        names = {"0.weight": "w1", "0.bias": "b1", "3.weight": "w2", "3.bias": "b2"}
        return {names[k]: v.numpy().astype(np.float64) for k, v in state.items()}

    def predict(self, shared: State, state: State, x: Floats) -> Floats:
        """The network, in NumPy."""
        hidden = np.maximum(x @ state["w1"].T + state["b1"], 0.0)
        return sigmoid(hidden @ state["w2"].T + state["b2"])
