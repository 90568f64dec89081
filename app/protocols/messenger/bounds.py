"""The bounds of what clients of a messenger send, and the begin of the names of its rooms in the core."""

#: The begin of the room of a user, and of that of a room.
USER_PREFIX = "user_"
ROOM_PREFIX = "room_"

#: The iterations that a client may choose for its password, and the bounds of the setting.
LEAST_ITERATIONS = 4_096
MOST_ITERATIONS = 1_000_000
#: The time that a client has to log in.
LOGIN_SECONDS = 30.0
#: Events `login`, `proof` and `password` of one connection.
MAX_LOGIN_EVENTS = 20
#: Events of one connection that wait for their turn or are being handled.
MAX_EVENTS_WAITING = 32
#: The longest event, as JSON.
MAX_EVENT_BYTES = 60_000
#: The longest login and name.
MAX_LOGIN_CHARACTERS = 64
MAX_NAME_CHARACTERS = 128
#: The longest password that is given as text.
MAX_PASSWORD_CHARACTERS = 256
#: The longest sign (a line that a user shows), icon and description of a room.
MAX_SIGN_CHARACTERS = 256
MAX_ICON_CHARACTERS = 16_384
MAX_DESCRIPTION_CHARACTERS = 1_024
#: The longest deviceId, and the longest of every other text that a client tells of its device and its program.
MAX_DEVICE_BYTES = 256
MAX_ABOUT_CHARACTERS = 128
#: The longest key of a password, as base64.
MAX_KEY_CHARACTERS = 128
#: The longest message of SCRAM.
MAX_SCRAM_CHARACTERS = 1_024
#: Imported forms of a password that one proof has, and the longest name of one.
MAX_FORMS = 4
MAX_FORM_CHARACTERS = 16
#: A longer text is no token.
MAX_TOKEN_CHARACTERS = 64
#: Members of one room.
MAX_MEMBERS = 5_000
#: Rooms of one user: as many as a connection may have by the site's limits, unless these say less.
MAX_ROOMS_OF_USER = 900
#: Contacts of one user.
MAX_CONTACTS = 5_000
#: Devices of one user in the directory; past it the one that was seen longest ago goes.
MAX_DEVICES_OF_USER = 100
#: The longest cursor of `sync`.
MAX_CURSOR_CHARACTERS = 300
#: Programs of a site: the name of one more is not kept.
MAX_APPS = 10_000
#: Sessions of one user; past it the oldest ends.
MAX_SESSIONS_OF_USER = 200
#: Networks that a user is known from; past it the one longest ago goes.
MAX_NETWORKS_OF_USER = 32
#: Registrations of one site that wait for a decision.
MAX_REGISTRATIONS = 1_000
#: The same of one address.
MAX_REGISTRATIONS_OF_ADDRESS = 10
#: Users and rooms of one site.
MAX_USERS = 100_000
MAX_ROOMS = 100_000
#: Questions to SQL of one site under way on a node; others wait.
MAX_UNDER_WAY = 4
#: Names of users and rooms of backends that a node knows, of all sites.
MOST_NAMES_KNOWN = 200_000
