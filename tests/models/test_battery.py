"""Every model of the package, put through the battery of :mod:`pyg_kgrec.testing`."""

from __future__ import annotations

from typing import Any

import torch
from torch_geometric.data import HeteroData

from pyg_kgrec import (
    ALS,
    BPRMF,
    EASE,
    KSR,
    KTUP,
    MKR,
    Blend,
    ItemKNN,
    KGRec,
    LightGCN,
    Popularity,
    Recommender,
    RP3beta,
    ops,
)
from pyg_kgrec.data import ENTITY
from pyg_kgrec.models.encoding import DotProduct
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.objective import Objective
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.nn import NodeEncoder
from pyg_kgrec.testing import EVERYTHING, ModelTests, RecommenderTests


class OfKGRec:
    model = KGRec
    settings = {"hidden_channels": 8, "num_negatives": 3, "mae_msize": 3}
    hears = EVERYTHING
    explains = True


class TestKGRec(OfKGRec, RecommenderTests):
    pass


class TestKGRecGate(OfKGRec, ModelTests):
    settings = OfKGRec.settings | {"item_gate": True}
    constant = ("encoder.gate",)


class TestKGRecInverseBPR(OfKGRec, ModelTests):
    settings = {"hidden_channels": 8, "inverse": True, "loss": "bpr", "hide_targets": False}


class TestKGRecWithoutKG(OfKGRec, ModelTests):
    settings = {"hidden_channels": 8, "num_negatives": 3, "use_kg": False}
    hears = ("interactions",)
    idle = ("encoder.conv.", "contrast.")  # without triples nothing asks for relations and contrast


class OfMKR:
    model = MKR
    settings = {"hidden_channels": 8, "num_negatives": 3}
    hears = ("links",)
    explains = True
    constant = ("bias", *(f"{part}_mlp.lins.{i}.weight" for part in ("user", "knowledge") for i in range(2)))


class TestMKR(OfMKR, RecommenderTests):
    pass


class TestMKRPaperMLP(OfMKR, RecommenderTests):
    settings = {
        "hidden_channels": 8,
        "num_layers": 2,
        "head": "mlp",
        "loss": "bce",
        "partners": "sample",
        "knowledge_loss": "paper",
        "knowledge_form": "paper",
    }


class TestMKRDCN(OfMKR, ModelTests):
    settings = {"hidden_channels": 8, "unit": "dcn", "loss": "bpr", "knowledge_interval": None}


class TestMKRStitch(OfMKR, ModelTests):
    settings = {"hidden_channels": 8, "unit": "stitch", "head": "mlp", "num_head_layers": 1}


class TestMKRWithoutKG(OfMKR, ModelTests):
    settings = {"hidden_channels": 8, "use_kg": False}
    hears = ()


class OfKTUP:
    model = KTUP
    settings = {"hidden_channels": 8, "num_negatives": 3}
    hears = ("links",)
    explains = True
    needs_knowledge = "the store has no relations, expected a knowledge graph for KTUP"


class TestKTUP(OfKTUP, RecommenderTests):
    pass


class TestKTUPSoftAlternate(OfKTUP, ModelTests):
    settings = {"hidden_channels": 8, "num_negatives": 2, "induction": "soft", "joint": "alternate"}


class TestKTUPSoftL1BPR(OfKTUP, ModelTests):
    settings = {"hidden_channels": 8, "induction": "soft", "norm": "l1", "loss": "bpr"}


class TestKTUPHardL1(OfKTUP, ModelTests):
    settings = {"hidden_channels": 8, "num_negatives": 2, "norm": "l1", "joint_ratio": 0.7} | {
        "transfer": "preferences",
        "triple_lr": 2.0,
        "knowledge_epochs": 1,
    }


class OfTUP(OfKTUP):
    settings = {"hidden_channels": 8, "num_negatives": 3, "use_kg": False}
    hears = ()
    needs_knowledge = None


class TestTUP(OfTUP, RecommenderTests):
    pass


class TestTUPSoft(OfTUP, ModelTests):
    settings = {"hidden_channels": 8, "num_negatives": 3, "use_kg": False, "induction": "soft"}


class OfKSR:
    model = KSR
    settings = {"embedding_channels": 8, "hidden_channels": 7}
    hears = ("interactions", "links")
    explains = True
    constant = ("bias",)

    @classmethod
    def given(cls, data: HeteroData) -> dict[str, Any]:
        """Embeddings of entities and relations that nobody has to train."""
        if ENTITY not in data.node_types:
            return {}
        rng = torch.Generator().manual_seed(5)
        tables = (torch.randn(n, 6, generator=rng) for n in (data[ENTITY].num_nodes, len(data.relation_name)))
        return {"kg_embedding": tuple(torch.nn.functional.normalize(table, dim=1) for table in tables)}


class TestKSR(OfKSR, RecommenderTests):
    pass


class TestKSRTunedBPR(OfKSR, ModelTests):
    settings = {
        "embedding_channels": 5,
        "hidden_channels": 8,
        "num_layers": 2,
        "loss": "bpr",
        "freeze_kg": False,
        "num_negatives": 2,
        "max_length": 3,
    }
    constant = ("bias", "entity")


class TestGRU(OfKSR, ModelTests):
    settings = {"embedding_channels": 8, "hidden_channels": 7, "use_kg": False}
    hears = ("interactions",)

    @classmethod
    def given(cls, data: HeteroData) -> dict[str, Any]:
        """Nothing: it has no entities."""
        return {}


class TestBPRMF(RecommenderTests):
    model = BPRMF
    explains = True
    settings = {"hidden_channels": 8}


class TestLightGCN(RecommenderTests):
    model = LightGCN
    explains = True
    settings = {"hidden_channels": 8, "loss": "softmax", "num_negatives": 3}
    hears = ("interactions",)


class TestPopularity(RecommenderTests):
    model = Popularity
    learns = False
    hears = ("interactions",)


class OfSolved:
    learns = False
    solved = True
    hears = ("interactions",)
    explains = True


class TestEASE(OfSolved, RecommenderTests):
    model = EASE
    settings = {"l2": 2.0}


class TestEASEKnowledge(OfSolved, ModelTests):
    model = EASE
    settings = {"knowledge": True}
    needs_knowledge = "no links of items and entities"


class TestItemKNN(OfSolved, ModelTests):
    model = ItemKNN
    settings = {"num_neighbors": 5, "shrinkage": 1.0}


class TestRP3beta(OfSolved, ModelTests):
    model = RP3beta


class TestALS(OfSolved, ModelTests):
    model = ALS
    settings = {"hidden_channels": 4, "num_sweeps": 3}


class TestBlend(OfSolved, RecommenderTests):
    model = Blend
    settings = {"weights": None}

    @classmethod
    def make(cls, data: HeteroData, **settings: Any) -> Any:
        """Of a dense and a sparse model."""
        return Blend({"dense": EASE(data, 2.0), "sparse": ItemKNN(data, 5, 1.0)}, **settings)


class Factors(Recommender):
    """A model of a reader's own, without an argument for features, as the page of own models writes it."""

    def __init__(self, data: HeteroData | StoreSignature, channels: int = 32) -> None:
        super().__init__(data)
        number, width = self.signature.num_nodes, self.signature.in_channels
        self.user = NodeEncoder(number["user"], channels, width["user"], "both")
        self.item = NodeEncoder(number["item"], channels, width["item"], "both")
        self.objective = Objective("softmax", num_negatives=3)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all parameters anew."""
        self.user.reset_parameters()
        self.item.reset_parameters()

    def encode(self, inputs: Inputs) -> DotProduct:
        """Rows of users and items."""
        return DotProduct(self.user(*inputs.nodes("user")), self.item(*inputs.nodes("item")))

    def training_losses(
        self, inputs: Inputs, batch: Any, generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """Cross entropy over a positive and its negatives."""
        encoded, (user, item) = self.encode(inputs), batch
        candidate = self.objective.candidates(inputs, user, item, generator)
        rows = torch.nn.functional.embedding(user, encoded.user)
        return {"ranking": self.objective(ops.sampled_scores(rows, encoded.item, candidate))}


class TestOwnModel(RecommenderTests):
    model, settings = Factors, {"channels": 8}
