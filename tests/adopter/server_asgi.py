# the same authority in a service on ASGI (Starlette here; FastAPI mounts it alike)
import uvicorn
from offlinekit_adapters.asgi import Request, sync_app
from server import authority
from starlette.applications import Starlette
from starlette.routing import Mount


def current_user(request: Request) -> tuple[str, dict[str, str]] | None:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return ("rep-17", {"rep": "rep-17"}) if (kind, token) == ("Bearer", "secret-of-rep-17") else None


app = Starlette(routes=[Mount("/sync", sync_app(authority, authenticate=current_user))])
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000, log_level="warning")
