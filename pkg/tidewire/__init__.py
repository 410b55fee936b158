"""asyncio's event loop and transports in C."""
from ._loop import Loop, new_event_loop

__version__ = '0.1.0'
__all__ = ('Loop', 'new_event_loop')
