"""The pages, one module for each part of the portal; every view takes a visit and returns HTML or an answer."""
