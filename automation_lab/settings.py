"""Every setting. The only module that reads the environment; `checks.py` judges the values at start."""

from __future__ import annotations

import os
from pathlib import Path

from django.templatetags.static import static
from django.urls import reverse_lazy

from automation_lab import environment

BASE_DIR = Path(__file__).resolve().parent.parent
env = environment.load(Path(os.environ.get("LAB_ENV_FILE", BASE_DIR / ".env")))

DATA_DIR = (BASE_DIR / Path(env.str("DATA_DIR")).expanduser()).resolve()

# --- security and addresses -------------------------------------------------------------------------------------------
DEBUG = env.bool("DEBUG")
SECRET_KEY = env.str("SECRET_KEY") or environment.key_file(DATA_DIR / "secret_key")
ALLOWED_HOSTS = [*env.list("ALLOWED_HOSTS"), "localhost", "127.0.0.1", "[::1]"]  # health checks come from this machine
PUBLIC_URL = env.str("PUBLIC_URL").rstrip("/")
# One that is no address is reported as such, and not a second time as an origin that nobody has set.
CSRF_TRUSTED_ORIGINS = [*env.list("CSRF_TRUSTED_ORIGINS"), *([PUBLIC_URL] if "://" in PUBLIC_URL else [])]
TRUSTED_PROXIES = env.str("TRUSTED_PROXIES")
ADMIN_USERNAME = env.str("ADMIN_USERNAME")
ADMIN_PASSWORD = env.str("ADMIN_PASSWORD")
API_TOKEN = env.str("API_TOKEN")
API_OPEN = env.bool("API_OPEN")
ENCRYPTION_KEYS = env.str("ENCRYPTION_KEYS")
OUTBOUND_ALLOW = env.str("OUTBOUND_ALLOW")
OUTBOUND_PORTS = env.str("OUTBOUND_PORTS")
COMMANDS_FILE = env.str("COMMANDS_FILE")

# --- receiving, running, logging --------------------------------------------------------------------------------------
INBOX_ACCEPT_UNKNOWN = env.bool("INBOX_ACCEPT_UNKNOWN")
INBOX_MAX_BODY_BYTES = env.int("INBOX_MAX_BODY_BYTES")
INBOX_RATE_LIMIT = env.str("INBOX_RATE_LIMIT")
INBOX_SOURCE_CACHE_SECONDS = 1.0  # how long a web process may go by the old limits of a source
TASKS_CONCURRENCY = env.int("TASKS_CONCURRENCY")
TASKS_GRACE_SECONDS = env.int("TASKS_GRACE_SECONDS")
TASKS_PER_HOST = env.int("TASKS_PER_HOST")
API_LOG_ENABLED = env.bool("API_LOG_ENABLED")
API_LOG_BODIES = env.str("API_LOG_BODIES")
API_LOG_SPOOL = env.str("API_LOG_SPOOL")
RETENTION_WEBHOOKS_DAYS = env.int("RETENTION_WEBHOOKS_DAYS")
RETENTION_EXECUTIONS_DAYS = env.int("RETENTION_EXECUTIONS_DAYS")
RETENTION_API_LOGS_DAYS = env.int("RETENTION_API_LOGS_DAYS")
RETENTION_API_LOG_HOURS_DAYS = env.int("RETENTION_API_LOG_HOURS_DAYS")
LIVE_URL = env.str("LIVE_URL").rstrip("/")
WEB_WORKERS = env.int("WEB_WORKERS")
WEB_THREADS = env.int("WEB_THREADS")
LOG_FORMAT = env.str("LOG_FORMAT")
LOG_LEVEL = env.str("LOG_LEVEL")

# --- database ---------------------------------------------------------------------------------------------------------
DATABASE_URL = env.str("DATABASE_URL")
EMBEDDED_DATABASE = not DATABASE_URL
# Set by the commands for the processes that they start: web, live or worker, and where the servers listen.
PROCESS_ROLE = os.environ.get("LAB_PROCESS_ROLE", "")
BIND_HOST = os.environ.get("LAB_BIND_HOST", "127.0.0.1")
LIVE_PORT = int(os.environ.get("LAB_LIVE_PORT", "8001"))
_POOL_SIZE = {"worker": TASKS_CONCURRENCY + 6, "web": WEB_THREADS + 2}.get(PROCESS_ROLE, 6)
_DATABASE = environment.database(DATABASE_URL, DATA_DIR)

DATABASES = {
    "default": {
        **_DATABASE,
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            **_DATABASE["OPTIONS"],
            "pool": {"min_size": 1, "max_size": _POOL_SIZE, "timeout": 5, "max_lifetime": 1800},
            "application_name": f"automation-lab {PROCESS_ROLE}".strip(),
            "prepare_threshold": 5,  # for core.prepared only; Django's own cursors prepare nothing
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- applications -----------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "procrastinate.contrib.django",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "knox",
    "axes",
    "channels",
    "automation_lab",
    "apilogs",
    "inbox",
    "tasks",
    "workflows",
]
MIDDLEWARE = [
    "apilogs.middleware.ApiLogMiddleware",
    "automation_lab.middleware.SecurityHeadersMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "automation_lab.urls"
WSGI_APPLICATION = "automation_lab.wsgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "automation_lab" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-gb"
USE_I18N = False
STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True
MIGRATION_MODULES = {"knox": None}  # only our token model has a table; knox would create its own beside it

# --- sign-in and safety -----------------------------------------------------------------------------------------------
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = reverse_lazy("admin:login")
LOGIN_REDIRECT_URL = "/admin/"
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_HTTP_RESPONSE_CODE = 429
AXES_LOCKOUT_CALLABLE = "automation_lab.error_views.locked_out"
AXES_CLIENT_IP_CALLABLE = "automation_lab.core.client_address.client_address"
AXES_VERBOSE = False
CSRF_FAILURE_VIEW = "automation_lab.error_views.csrf_failure"
_HTTPS = PUBLIC_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _HTTPS
SESSION_COOKIE_AGE = 8 * 3600
SESSION_SAVE_EVERY_REQUEST = False
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _HTTPS and TRUSTED_PROXIES else None
SECURE_HSTS_SECONDS = 31_536_000 if _HTTPS else 0
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 2_621_440

# --- API --------------------------------------------------------------------------------------------------------------
KNOX_TOKEN_MODEL = "automation_lab.ApiToken"  # noqa: S105 - a model's name
REST_KNOX = {
    "TOKEN_MODEL": "automation_lab.ApiToken",
    "TOKEN_PREFIX": "lab_",
    "TOKEN_TTL": None,
    "AUTH_HEADER_PREFIX": "Bearer",
    "AUTO_REFRESH": False,
}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "automation_lab.core.api.authentication.TokenAuthentication",
        "automation_lab.core.api.authentication.ConsoleSessionAuthentication",
        "automation_lab.core.api.authentication.OpenAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["automation_lab.core.api.permissions.RolePermission"],
    "DEFAULT_RENDERER_CLASSES": [
        "rest_framework.renderers.JSONRenderer",
        "automation_lab.core.api.renderers.BrowsableRenderer",
    ],
    "DEFAULT_PARSER_CLASSES": ["automation_lab.core.api.parsers.StrictJSONParser"],
    "DEFAULT_FILTER_BACKENDS": ["automation_lab.core.api.filters.StrictFilterBackend"],
    "DEFAULT_PAGINATION_CLASS": "automation_lab.core.api.pagination.LabPagination",
    "DEFAULT_SCHEMA_CLASS": "automation_lab.core.api.openapi.LabAutoSchema",
    "EXCEPTION_HANDLER": "automation_lab.core.api.problems.exception_handler",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Automation Lab",
    "VERSION": "1",
    "DESCRIPTION": "Webhooks received, tasks scheduled, workflows run, requests logged.",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "/v1",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "inbox.openapi.describe_receiving",
        "workflows.openapi.describe_callbacks",
        "automation_lab.core.api.openapi.loosen_free_values",
    ],
    "ENUM_NAME_OVERRIDES": {
        "WebhookStatus": "inbox.models.Webhook.Status",
        "TaskExecutionStatus": "tasks.models.TaskExecution.Status",
        "AttemptStatus": "tasks.models.TaskAttempt.Status",
        "WorkflowExecutionStatus": "workflows.models.WorkflowExecution.Status",
        "StepStatus": "workflows.models.StepExecution.Status",
        "ChannelKind": "tasks.models.NotificationChannel.Kind",
    },
}

# --- engine, mail, live -----------------------------------------------------------------------------------------------
PROCRASTINATE_AUTODISCOVER_MODULE_NAME = "jobs"
PROCRASTINATE_IMPORT_PATHS = ["automation_lab.core.execution.jobs"]
vars().update(environment.email(env.str("EMAIL_URL")))
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL")
EMAIL_TIMEOUT = 15
LOGGING = environment.logging_config(LOG_FORMAT, LOG_LEVEL)

# --- console ----------------------------------------------------------------------------------------------------------
UNFOLD = {
    "SITE_TITLE": "Automation Lab",
    "SITE_HEADER": "Automation Lab",
    "SITE_SYMBOL": "bolt",
    "SITE_URL": "/admin/",
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "DASHBOARD_CALLBACK": "automation_lab.admin_site.dashboard",
    "GLOBAL_CALLBACK": "automation_lab.admin_site.context",
    "COMMAND": {"search_callback": "automation_lab.admin_site.search", "show_history": True},
    "SIDEBAR": {"show_search": True, "navigation": "automation_lab.admin_site.navigation"},
    "STYLES": [lambda request: static("automation_lab/console.css")],
    "SCRIPTS": [lambda request: static("automation_lab/console.js")],
}
