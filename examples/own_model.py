"""A model of one's own. `python examples/own_model.py` trains it, `pytest examples/own_model.py` tries it."""

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec import Popularity, Recommender, evaluate, fit, ops
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.models.encoding import DotProduct
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.objective import Objective
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.nn import NodeEncoder
from pyg_kgrec.nn.encoder import Features
from pyg_kgrec.testing import RecommenderTests
from pyg_kgrec.transforms import RandomSplit


class PopularFactors(Recommender):
    """Scores a · log(1 + an item's number of interactions) + user · item, with a learned a."""

    def __init__(self, data: HeteroData | StoreSignature, channels: int = 32, features: Features = "both"):
        super().__init__(data)
        number, width = self.signature.num_nodes, self.signature.in_channels
        self.user = NodeEncoder(number["user"], channels, width["user"], features)
        self.item = NodeEncoder(number["item"], channels, width["item"], features)
        self.slope = torch.nn.Parameter(torch.empty(1))
        self.objective = Objective("softmax", num_negatives=64)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.user.reset_parameters()
        self.item.reset_parameters()
        torch.nn.init.uniform_(self.slope, 0, 0.1)

    def encode(self, inputs: Inputs) -> DotProduct:
        user, item = self.user(*inputs.nodes("user")), self.item(*inputs.nodes("item"))
        count = inputs.part("count", lambda: inputs.edge_index[1].bincount(minlength=inputs.num_items))
        popularity = self.slope * count.log1p().to(item.dtype).unsqueeze(1)
        user = torch.cat([user, torch.ones_like(user[:, :1])], dim=1)
        return DotProduct(user, torch.cat([item, popularity], dim=1))

    def training_losses(self, inputs: Inputs, batch: tuple, generator: torch.Generator) -> dict[str, Tensor]:
        encoded, (user, item) = self.encode(inputs), batch
        candidate = self.objective.candidates(inputs, user, item, generator)
        rows = torch.nn.functional.embedding(user, encoded.user)
        return {"ranking": self.objective(ops.sampled_scores(rows, encoded.item, candidate))}


class TestPopularFactors(RecommenderTests):
    model, settings, hears = PopularFactors, {"channels": 8}, ("interactions",)


if __name__ == "__main__":
    train, val, test = RandomSplit(seed=0)(SyntheticKG(num_users=300, num_items=200, seed=0)[0])
    torch.manual_seed(0)
    fit(mine := PopularFactors(train), train, val, max_epochs=10, lr=5e-3, progress=False)
    print(*(f"{type(m).__name__}: {evaluate(m, test)['ndcg@10']:.4f}" for m in (mine, Popularity(train))))
    print(mine.recommend(test, ["u000"], k=5, as_frame=True))
