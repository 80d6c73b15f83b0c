-- Makes the database, and per service a role with a schema that is the role's alone. Safe to repeat; it also sets the passwords anew.
-- Run by psql 15 or later, as the superuser. The passwords come from its environment, never from an argument list:
-- M2_DATABASE_PASSWORD_GATEWAY, _IMAGE, _ISCSI, _BOOT, _HIL.
\set ON_ERROR_STOP on
\set QUIET on
\getenv gateway M2_DATABASE_PASSWORD_GATEWAY
\getenv image M2_DATABASE_PASSWORD_IMAGE
\getenv iscsi M2_DATABASE_PASSWORD_ISCSI
\getenv boot M2_DATABASE_PASSWORD_BOOT
\getenv hil M2_DATABASE_PASSWORD_HIL

SET client_min_messages = warning;

SELECT 'CREATE DATABASE m2' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'm2') \gexec
\connect m2
SET client_min_messages = warning;

CREATE TEMPORARY TABLE service (role name, password text);
INSERT INTO service VALUES
  ('m2_gateway', :'gateway'), ('m2_image', :'image'), ('m2_iscsi', :'iscsi'), ('m2_boot', :'boot'), ('m2_hil', :'hil');

SELECT format('CREATE ROLE %I', role) FROM service WHERE role NOT IN (SELECT rolname FROM pg_roles) \gexec
SELECT format('ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD %L', role, password)
  FROM service \gexec
SELECT format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I', role, role) FROM service \gexec
SELECT format('ALTER ROLE %I SET search_path = %I', role, role) FROM service \gexec

-- PostgreSQL lets everybody connect, make temporary tables, and (before 15) write into "public".
REVOKE ALL ON DATABASE m2 FROM PUBLIC;
REVOKE ALL ON DATABASE postgres FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
SELECT format('GRANT CONNECT ON DATABASE m2 TO %I', role) FROM service \gexec
