"""A service: a model and a store behind HTTP, with a page (extra ``serve``)."""

from pyg_kgrec._extras import require

for _module in ("fastapi", "prometheus_client"):
    require(_module, "serve", "pyg_kgrec.serving")

from pyg_kgrec.serving.app import create_app  # noqa: E402
from pyg_kgrec.serving.limits import Limits  # noqa: E402
from pyg_kgrec.serving.server import serve  # noqa: E402

__all__ = ["Limits", "create_app", "serve"]
