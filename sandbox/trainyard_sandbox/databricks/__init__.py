"""The Databricks half of the sandbox: one module per API, found and mounted by server.py.

Each module has `routes() -> list[Route]`. One that owns a store or a process also has `attach(state) -> None`, called
once before the first request: it hangs its store on the state (`state.files`, `state.catalog`, `state.mlflow`) and may
append to `state.on_startup` and `state.on_shutdown`. `control_routes() -> list[Route]` adds to the control API (on its
own port). Modules never import each other.
"""
