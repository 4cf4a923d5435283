"""To come."""

from offlinekit_portal.web.visit import Routes

routes = Routes()
