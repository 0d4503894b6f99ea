"""The Azure half of the sandbox: Entra, Azure Resource Manager, the workspace's data plane and its storage.

One module per API, found and mounted by server.py as those of the Databricks half: `routes() -> list[Route]` for the
one origin on which all Azure planes live; `attach(state) -> None` is called once before the first request (it hangs a
store on `state.azure` and may append to `state.on_startup`, `state.on_shutdown`); `control_routes() -> list[Route]`
adds to the control API. Modules declare ARM routes with `arm.arm_route` and data-plane routes with
`arm.data_plane_route`, which check token, scope, role, api-version and limits before the handler is called.
"""
