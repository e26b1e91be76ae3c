"""Tests of the engines, one package each."""
