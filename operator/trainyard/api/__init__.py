"""The resources of API group trainyard.dev as pydantic models; the CRDs are generated from them."""
